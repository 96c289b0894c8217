"""What the steps of context training see: VACE's tasks, mixed, and portraits beside their references."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from batches import Mix, draw_clips, draw_context, draw_sigma, nothing
from latents import Latents
from portraits import Portraits
from text import Prompts, draw_captions
from torch import Tensor, nn


class Batch(NamedTuple):
    """Clips of one step, before they are noised.

    Attributes:
        clean: latents [B, C, R+F, h, w], references in front.
        control: control latents [B, 96, R+F, h, w].
        references: R.
        text: prompt embeddings [B, N, text_dim].
        sigma: noise levels [B, 1].
        kind: under which name losses of such batches are kept.
        area: [B, F, h, w], how much more the error counts where; None for nowhere.
    """

    clean: Tensor
    control: Tensor
    references: int
    text: Tensor
    sigma: Tensor
    kind: str
    area: Tensor | None = None


Draw = Callable[[int, torch.Generator], Batch]
"""Makes the batch of a step from its number and its random numbers."""

PORTRAIT_LENGTHS = ((60, 4), (24, 9), (11, 21))
"""As `batches.LENGTHS`."""

PORTRAIT_SHIFT = 5.0
"""Most noise levels are those where colours are decided."""

PLACED = 0.85
"""Noise level below which latents themselves show where a thing is."""

PORTRAIT_BARE, PORTRAIT_CAPTIONS = 0.35, (0.05, 0.9, 0.05)
"""Share of portraits without control; shares of full captions, captions without appearance, and none."""


def mixed(latents: Latents, mix: Mix, encoder: nn.Module) -> Draw:
    """Batches of every task."""
    prompts = Prompts(latents.captions)

    def draw(step: int, generator: torch.Generator) -> Batch:
        clips, frames = draw_clips(latents, step, mix.lengths, generator)
        clean, control, minor, references = draw_context(latents, clips, frames, mix, generator)
        captions = draw_captions(len(clips), mix.captions[references > 0], generator)
        sigma = draw_sigma(len(clips), generator, mix.shift)
        area = _share_alike(minor) if mix.minor else None
        kind = "with_references" if references else "loss"
        return Batch(clean, control, references, prompts.embed(encoder, clips, captions), sigma, kind, area)

    return draw


def portrayed(portraits: Portraits, latents: Latents, encoder: nn.Module) -> Draw:
    """Batches of portraits. Captions seldom name colours, and no control shows them: the reference alone does.

    A control says where the thing is even in full noise, so that there is something to be gained from knowing how it
    looks; the error counts once more there. Without a control it does so only below `PLACED`, or things would be drawn
    wherever they might be.
    """
    prompts = Prompts(portraits.captions)

    def draw(step: int, generator: torch.Generator) -> Batch:
        clips, frames = draw_clips(portraits, step, PORTRAIT_LENGTHS, generator)
        empty = nothing(latents, frames)
        control = empty.expand(len(clips), *empty.shape).clone()
        steered = torch.rand(clips.shape, generator=generator) >= PORTRAIT_BARE
        channels = empty.shape[0] - 64
        control[steered, channels // 2 : channels] = portraits.control[clips[steered], :, :frames].float()
        references = portraits.references[clips].float()
        rest = torch.zeros((len(clips), empty.shape[0] - references.shape[1], *references.shape[2:]))
        text = prompts.embed(encoder, clips, draw_captions(len(clips), PORTRAIT_CAPTIONS, generator))
        sigma = draw_sigma(len(clips), generator, PORTRAIT_SHIFT)
        placed = steered | (sigma[:, 0] < PLACED)
        return Batch(
            clean=torch.cat([references, portraits.video[clips, :, :frames].float()], dim=2),
            control=torch.cat([torch.cat([references, rest], dim=1), control], dim=2),
            references=1,
            text=text,
            sigma=sigma,
            kind="portraits",
            area=portraits.area[clips, :frames] & placed[:, None, None, None],
        )

    return draw


def _share_alike(area: Tensor) -> Tensor:
    """Weights of an area bool [B, F, h, w]: as much for one frame of a clip as for half of another."""
    return area / area.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)


def in_turn(*draws: Draw) -> Draw:
    """One after another."""
    return lambda step, generator: draws[step % len(draws)](step // len(draws), generator)
