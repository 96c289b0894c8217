"""Stages ``causal`` and ``distil``: from the bidirectional base to a student that streams in few steps.

``causal`` makes a model that denoises a chunk given the clean chunks before it (teacher forcing: clean and noisy copies
of a clip in one pass). ``distil`` regresses a student onto the end of that model's own guided sampling path, from each
of the few noise levels that the pipeline steps through. Neither ever sees a context block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from base import CAPTIONS, squared
from batches import draw_sigma, noised
from latents import Latents
from muon import Optimizers
from network import flow
from text import Prompts, draw_captions
from torch import Tensor, nn
from training import Training, cooled

from vace_adapt.embedded.family import FAMILY
from vace_adapt.models.causal_wan import CausalWan

CLIPS, FRAMES = 7, 21
HISTORY_NOISE = 0.15
"""The most noise on the clean copies, so that a stream can live with its own mistakes."""

LONGEST_GAP = 600
"""Latent frames that a stream may be away from its sink."""


@dataclass(frozen=True)
class Window:
    """What a streaming pipeline's cache shows a chunk.

    Attributes:
        chunk: latent frames of a chunk.
        sink: latent frames at the start that stay visible.
        slots: latent frames visible in all, the chunk's own among them.
    """

    chunk: int
    sink: int
    slots: int

    def mask(self, frames: int) -> Tensor:
        """bool [2F, 2F] over [clean copies | noisy copies]: True where a row may look."""
        index = torch.arange(frames)
        number = index // self.chunk
        last = (number + 1) * self.chunk
        near = index[None] >= last[:, None] - (self.slots - self.sink)
        seen = near | (index[None] < self.sink)
        before, same = number[None] < number[:, None], number[None] == number[:, None]
        clean = torch.cat([seen & (before | same), torch.zeros_like(same)], dim=1)
        return torch.cat([clean, torch.cat([seen & before, same], dim=1)])


class Past(NamedTuple):
    """What a clip's noisy copies are denoised under, F latent frames.

    Attributes:
        clean: copies of the clip that stand for finished chunks, [B, C, F, h, w].
        text: prompt embeddings, [B, N, text_dim].
        positions: temporal positions of clean and noisy copies, 2F.
        mask: who sees whom, `Window.mask`.
    """

    clean: Tensor
    text: Tensor
    positions: Sequence[int]
    mask: Tensor


def train_causal(
    folder: Path, steps: int, latents: Latents, base: CausalWan, encoder: nn.Module, window: Window, device: str = "cpu"
) -> CausalWan:
    """Fine-tune, or go on fine-tuning, a copy of the base to the window."""
    prompts = Prompts(latents.captions)
    encoder.requires_grad_(False).to(device)
    model = copied(base).to(device)
    optimizers = Optimizers([model], 0.006, 6e-4)
    training = Training(folder, steps, seed=4, parts={"model": model, "optimizers": optimizers})
    mask = window.mask(FRAMES).to(device)
    for generator in training:
        clean, text = draw_captioned(latents, prompts, encoder, generator, device)
        sigma = by_chunk(draw_sigma(CLIPS * FRAMES // window.chunk, generator), window.chunk).to(device)
        sample = noised(clean, sigma, generator)
        past = Past(draw_history(clean, generator), text, draw_positions(window, generator), mask)
        with torch.autocast(device, torch.bfloat16):
            made = teacher_forced(model, past, sample.latents, sigma)
        loss = squared(made, sample.target)
        optimizers.step(loss, cooled(training.done))
        training.note(loss=loss)
    return model.eval()


def copied(model: CausalWan) -> CausalWan:
    """A model of its own with the same weights, to be trained."""
    other = CausalWan.of(FAMILY)
    other.load_state_dict(model.state_dict())
    return other.requires_grad_(True)


def draw_captioned(latents: Latents, prompts: Prompts, encoder: nn.Module, generator: torch.Generator, device: str):
    clips = torch.randint(len(latents), (CLIPS,), generator=generator)
    text = prompts.embed(encoder, clips, draw_captions(CLIPS, CAPTIONS, generator))
    return latents.video[clips, :, :FRAMES].float().to(device), text


def by_chunk(levels: Tensor, chunk: int) -> Tensor:
    """One level for each chunk of each clip, [N, 1], as one for each frame, [B, F]."""
    return levels.view(CLIPS, -1).repeat_interleave(chunk, dim=1)


def draw_history(clean: Tensor, generator: torch.Generator) -> Tensor:
    level = HISTORY_NOISE * torch.rand((len(clean), 1, clean.shape[2], 1, 1), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    return clean + (level * noise).to(clean.device)


def draw_positions(window: Window, generator: torch.Generator) -> list[int]:
    """Half of the time the frames after the sink lie anywhere later in a long stream."""
    far = int(torch.randint(2, (), generator=generator)) * int(torch.randint(LONGEST_GAP, (), generator=generator))
    own = [i if i < window.sink else i + far for i in range(FRAMES)]
    return own + own


def teacher_forced(model: CausalWan, past: Past, noisy: Tensor, sigma: Tensor) -> Tensor:
    """The flow of the noisy copies [B, C, F, h, w], which are at noise levels [B, F]."""
    both = torch.cat([past.clean, noisy], dim=2)
    levels = torch.cat([torch.zeros_like(sigma), sigma], dim=1)
    return flow(model, both, levels, past.text, past.positions, mask=past.mask)[:, :, noisy.shape[2] :]
