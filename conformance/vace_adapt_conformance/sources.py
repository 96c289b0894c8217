"""Hints that checks give to a loop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vace_adapt.contract import BlockInputs, HintSource
from vace_adapt.streaming.noise import draw
from vace_adapt_conformance.scripted import NEGATIVE, Source
from vace_adapt_conformance.subject import Subject


def hinted(subject: Subject) -> tuple[int, ...]:
    """The blocks that can receive hints: those of the context path where it is put on by hooks, else all."""
    pipe = subject.pipe
    if pipe.attachment is not None and pipe.context is not None:
        return pipe.context.layers
    return tuple(range(pipe.parts.backbone.layers))


def random_hints(subject: Subject, *, scale: float = 0.3) -> HintSource:
    """Some hint for every block that can receive one: the same for the same tokens."""
    layers = hinted(subject)

    def hints(inputs: BlockInputs) -> dict[int, Tensor]:
        shape = inputs.hidden.shape[1:]
        noise = draw([0], "hints", 0, (len(layers), *shape))[0] * scale
        return {layer: noise[i].to(inputs.hidden).expand_as(inputs.hidden) for i, layer in enumerate(layers)}

    return HintSource(hints)


def made_by(make: Callable[[Tensor], dict[int, Tensor]]) -> HintSource:
    """Hints made of the tokens that enter block 0."""
    return HintSource(lambda inputs: make(inputs.hidden))


def while_denoising(source: HintSource) -> Source:
    """These hints at every denoise step, under the negative prompt, too, and at no other pass."""
    return lambda chunk, step: source if step >= 0 or step == NEGATIVE else None


def frame_rows(tokens: int, frame: int, frames: int) -> Tensor:
    """bool [L]: which tokens are of a latent frame of the chunk."""
    rows = torch.zeros(frames, tokens // frames, dtype=torch.bool)
    rows[frame] = True
    return rows.flatten()
