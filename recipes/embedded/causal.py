"""Stages ``causal_*``: the bidirectional base, fine-tuned to what a streaming pipeline's memory shows a chunk.

Where finished chunks are remembered clean, clean and noisy copies of a clip go through in one pass (teacher forcing);
where they are remembered as they were at the noise level of the pass, one copy does. No context block takes part.
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
from precision import autocast
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
    """What a streaming pipeline's memory shows a chunk.

    Attributes:
        chunk: latent frames of a chunk.
        sink: latent frames at the start that stay visible.
        slots: latent frames visible in all, the chunk's own among them.
        bank: first frames of the newest chunks that have left these slots, visible beside them.
        more: latent frames that the first chunk has more.
        clean: finished chunks are remembered clean; otherwise at the noise level of the pass that looks.
    """

    chunk: int
    sink: int
    slots: int
    bank: int = 0
    more: int = 0
    clean: bool = True

    def numbers(self, frames: int) -> Tensor:
        """The chunk of each frame, int64 [F]."""
        return (torch.arange(frames) - self.more).clamp_min(0) // self.chunk

    def mask(self, frames: int, *, alone: bool = False) -> Tensor:
        """bool, True where a row may look: [2F, 2F] over [clean copies | noisy copies], or [F, F].

        Args:
            frames: F.
            alone: every chunk is the first of its stream, and sees itself only.
        """
        number, seen = self.numbers(frames), self._seen(frames)
        if alone:
            number, seen = self.firsts(frames)[0], torch.ones_like(seen)
        before = (number[None] < number[:, None]) & (not alone)
        same = number[None] == number[:, None]
        if not self.clean:
            return seen & (before | same)
        clean = torch.cat([seen & (before | same), torch.zeros_like(same)], dim=1)
        return torch.cat([clean, torch.cat([seen & before, same], dim=1)])

    def firsts(self, frames: int) -> tuple[Tensor, Tensor]:
        """The clip as so many first chunks: their number and the position of each frame, int64 [F]."""
        index, size = torch.arange(frames), self.chunk + self.more
        return index // size, index % size

    def _seen(self, frames: int) -> Tensor:
        """bool [F, F]: frames in the memory of the row's chunk, whatever comes later among them."""
        index, number = torch.arange(frames), self.numbers(frames)
        oldest = (number + 1) * self.chunk + self.more - (self.slots - self.sink)
        near = index[None] >= oldest[:, None]
        seen = near | (index[None] < self.sink)
        first = number.diff(prepend=torch.tensor([-1])) > 0
        left = first[None] & ~seen
        newest = left.long().flip(1).cumsum(1).flip(1)
        return seen | (left & (newest <= self.bank))


class Past(NamedTuple):
    """What a clip's noisy copies are denoised under, F latent frames.

    Attributes:
        clean: copies of the clip that stand for finished chunks, [B, C, F, h, w]; None where there are none.
        text: prompt embeddings, [B, N, text_dim].
        positions: temporal position of each frame, F.
        mask: who sees whom, `Window.mask`; None for everybody.
    """

    clean: Tensor | None
    text: Tensor
    positions: Sequence[int]
    mask: Tensor | None


def train_causal(
    folder: Path, steps: int, latents: Latents, base: CausalWan, encoder: nn.Module, window: Window, device: str = "cpu"
) -> CausalWan:
    """Fine-tune, or go on fine-tuning, a copy of the base to the window."""
    prompts = Prompts(latents.captions)
    encoder.requires_grad_(False).to(device)
    model = copied(base).to(device)
    optimizers = Optimizers([model], 0.006, 6e-4)
    training = Training(folder, steps, seed=4, parts={"model": model, "optimizers": optimizers})
    for generator in training:
        clean, text = draw_captioned(latents, prompts, encoder, generator, device)
        sigma = draw_levels(window, generator).to(device)
        sample = noised(clean, sigma, generator)
        past = draw_past(window, clean, text, generator)
        with autocast(device):
            made = streamed(model, past, sample.latents, sigma)
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


def draw_levels(window: Window, generator: torch.Generator) -> Tensor:
    """Noise levels of the frames [B, F]: one for each chunk, or for each clip where chunks remember noisy ones."""
    number = window.numbers(FRAMES) if window.clean else torch.zeros(FRAMES, dtype=torch.long)
    return draw_sigma(CLIPS * (int(number[-1]) + 1), generator).view(CLIPS, -1)[:, number]


def draw_past(window: Window, clean: Tensor, text: Tensor, generator: torch.Generator, *, firsts: float = 0.0) -> Past:
    """What is remembered of a clip; in a share `firsts` of steps nothing is, and every chunk is a stream's first."""
    history = draw_history(clean, generator) if window.clean else None
    positions = draw_positions(window, generator)
    alone = firsts > 0 and bool(torch.rand((), generator=generator) < firsts)
    if alone:
        positions = window.firsts(FRAMES)[1].tolist()
    return Past(history, text, positions, window.mask(FRAMES, alone=alone).to(clean.device))


def draw_history(clean: Tensor, generator: torch.Generator) -> Tensor:
    level = HISTORY_NOISE * torch.rand((len(clean), 1, clean.shape[2], 1, 1), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    return clean + (level * noise).to(clean.device)


def draw_positions(window: Window, generator: torch.Generator) -> list[int]:
    """Half of the time the frames after the sink lie anywhere later in a long stream."""
    far = int(torch.randint(2, (), generator=generator)) * int(torch.randint(LONGEST_GAP, (), generator=generator))
    return [i if i < window.sink else i + far for i in range(FRAMES)]


def streamed(model: CausalWan, past: Past, noisy: Tensor, sigma: Tensor) -> Tensor:
    """The flow of noisy chunks [B, C, F, h, w] at noise levels [B, F], after what is remembered."""
    if past.clean is None:
        return flow(model, noisy, sigma, past.text, past.positions, mask=past.mask)
    both = torch.cat([past.clean, noisy], dim=2)
    levels = torch.cat([torch.zeros_like(sigma), sigma], dim=1)
    positions = [*past.positions, *past.positions]
    return flow(model, both, levels, past.text, positions, mask=past.mask)[:, :, noisy.shape[2] :]
