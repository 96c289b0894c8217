"""Batches of encoded clips: how many of what length, which noise level, which condition, which references."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from latents import CONDITIONS, Latents
from torch import Tensor

LENGTHS = ((32, 9), (14, 21))
"""Clips and latent frames of a step, one after another: about as many tokens."""

SHIFT = 3.0
"""Of noise levels: how many more of them are high."""


@dataclass(frozen=True)
class Mix:
    """What the clips of a step are given.

    Attributes:
        references: shares of steps with 0, 1, 2 and 3 references.
        bare: share of clips that are given no control: in steps without and with references.
        captions: shares of full captions, captions without appearance, and none: in steps without and with references.
        lengths: as `LENGTHS`.
        shift: as `SHIFT`.
        minor: whether the error counts once more in the smaller part of what is kept and what is made.
    """

    references: tuple[float, ...]
    bare: tuple[float, float]
    captions: tuple[tuple[float, float, float], tuple[float, float, float]]
    lengths: tuple[tuple[int, int], ...] = LENGTHS
    shift: float = SHIFT
    minor: bool = False


EVERYTHING = Mix((0.55, 0.27, 0.12, 0.06), (0.1, 0.45), ((0.6, 0.3, 0.1), (0.3, 0.6, 0.1)))
"""VACE's tasks, mixed."""

LOOKS = Mix((0.15, 0.55, 0.2, 0.1), (0.1, 0.8), ((0.6, 0.3, 0.1), (0.05, 0.9, 0.05)))
"""References above all, and little else that says how things look: the model learns them late, only when it must."""

LIKENESS = replace(LOOKS, lengths=((60, 4), (24, 9)), shift=5.0)
"""The same with more things in a step, and at noise levels where their looks are decided."""


KEPT = Mix((0.6, 0.4, 0.0, 0.0), (0.05, 0.35), EVERYTHING.captions, lengths=((14, 21),), minor=True)
"""Whole clips: one that is cut has lost what was given at its end."""


class Noised(NamedTuple):
    """Latents on their way to noise.

    Attributes:
        latents: [B, C, F, h, w].
        target: the flow, noise minus clean.
    """

    latents: Tensor
    target: Tensor


def draw_clips(
    latents: Sized, step: int, lengths: Sequence[tuple[int, int]], generator: torch.Generator
) -> tuple[Tensor, int]:
    """Numbers of the clips of a step [B], and their latent frames."""
    count, frames = lengths[step % len(lengths)]
    return torch.randint(len(latents), (count,), generator=generator), frames


def draw_sigma(count: int, generator: torch.Generator, shift: float = SHIFT) -> Tensor:
    """Noise levels in (0, 1), more of them high: [count, 1]."""
    level = torch.rand((count, 1), generator=generator)
    return shift * level / (1 + (shift - 1) * level)


def noised(clean: Tensor, sigma: Tensor, generator: torch.Generator) -> Noised:
    """Clean latents [B, C, F, h, w] at noise levels [B, F]."""
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    level = sigma[:, None, :, None, None]
    return Noised((1 - level) * clean + level * noise, noise - clean)


class Context(NamedTuple):
    """What VACE is given for a batch.

    Attributes:
        clean: latents [B, C, R+F, h, w], references in front.
        control: control latents [B, 96, R+F, h, w].
        minor: bool [B, F, h, w], `Latents.minor` of what is given.
        references: R.
    """

    clean: Tensor
    control: Tensor
    minor: Tensor
    references: int


def draw_context(latents: Latents, clips: Tensor, frames: int, mix: Mix, generator: torch.Generator) -> Context:
    """One condition of each clip, or none, and as many references for all."""
    count = int(torch.multinomial(torch.tensor(mix.references), 1, generator=generator))
    chosen = torch.randint(CONDITIONS, clips.shape, generator=generator)
    bare = torch.rand(clips.shape, generator=generator) < mix.bare[count > 0]
    control = control_latents(latents, clips, chosen, frames)
    control[bare] = nothing(latents, frames)
    minor = latents.minor[clips, chosen, :frames] & ~bare[:, None, None, None]
    clean = latents.video[clips, :, :frames].float()
    if not count:
        return Context(clean, control, minor, 0)
    places = torch.rand((len(clips), 3), generator=generator).argsort(dim=1)[:, :count]
    references = latents.references[clips[:, None], places].float().squeeze(3).transpose(1, 2)
    rest = torch.zeros((len(clips), 96 - references.shape[1], *references.shape[2:]))
    in_front = torch.cat([references, rest], dim=1)
    return Context(torch.cat([references, clean], dim=2), torch.cat([in_front, control], dim=2), minor, count)


def control_latents(latents: Latents, clips: Tensor, chosen: Tensor, frames: int) -> Tensor:
    """Control latents [B, 96, F, h, w] of one condition of each clip."""
    parts = (latents.inactive, latents.reactive, latents.mask)
    return torch.cat([part[clips, chosen][:, :, :frames].float() for part in parts], dim=1)


def nothing(latents: Latents, frames: int) -> Tensor:
    """Control latents [96, F, h, w] of "nothing given"."""
    gray = latents.nothing[:, :frames].float()
    return torch.cat([gray, gray, torch.ones((64, *gray.shape[1:]))])
