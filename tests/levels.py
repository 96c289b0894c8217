"""What must be true of scales, as functions that raise AssertionError; see `oracles`.

The integral over levels by brute force: for every set of inputs that is heard at some level, the hint of a stream that
is given exactly these, and nothing else. Shares no line with `vace_adapt.context.parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from support import HEIGHT, WIDTH, frames, opened, picture, same, stream
from torch import Tensor

from vace_adapt import ControlSettings, HintScale
from vace_adapt.conditioning.pixels import frames_to_pixels
from vace_adapt.contract import BlockInputs, Hints
from vace_adapt.scale import Schedule
from vace_adapt.streaming.control_path import ControlPath

SHAPE = (1, 3, HEIGHT // 16, WIDTH // 16)
"""Rows, latent frames, token rows and columns of chunk 0."""


def integral(hint_of: Callable[[bool, list[int]], Hints], control: float, references: Sequence[float]) -> Hints:
    """For every interval of levels the hint of the inputs stronger than it, times its length.

    Args:
        hint_of: makes the hint of a stream with or without the control and with the references of these numbers, all of
            scale 1.
        control, references: their scales.
    """
    bounds = sorted({0.0, control, *references})
    total: dict[int, Tensor] = {}
    for low, high in pairwise(bounds):
        heard = [i for i, scale in enumerate(references) if scale > low]
        for layer, hint in hint_of(control > low, heard).items():
            total[layer] = total.get(layer, 0) + (high - low) * hint
    return total


def close(a: Hints, b: Hints) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[layer], b[layer], rtol=0, atol=1e-5) for layer in a)


def equal(a: Hints, b: Hints) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[layer], b[layer]) for layer in a)


def at_tokens(hints: Hints, tokens: Tensor) -> Hints:
    """Hints of the tokens where `tokens` [L] is true."""
    return {layer: hint[:, tokens] for layer, hint in hints.items()}


# --- of a whole control path -----------------------------------------------------------------------------------------


def hints(
    pipe: Any,
    *,
    fed: bool = True,
    images: Tensor | None = None,
    scales: tuple[float, ...] | None = None,
    factors: Tensor | None = None,
    step: int = 0,
    **scale: Any,
) -> Hints:
    """Hints of chunk 0 of a stream that was given this."""
    path = ControlPath.open(pipe, opened(pipe).shapes, ControlSettings(scale=HintScale(**scale)), [0])
    path.set_references(images, scales)
    shown = SimpleNamespace(frames=frames_to_pixels(torch.from_numpy(frames(9))[None]), mask=None, factors=factors)
    source = path.chunk(0, shown if fed else None).source(step, 0.6)
    if source is None:
        return {}
    generator = torch.Generator().manual_seed(2)
    backbone, tokens = pipe.parts.backbone, SHAPE[1] * SHAPE[2] * SHAPE[3]
    sizes = (tokens, backbone.dim), (6, backbone.dim), (backbone.text_len, backbone.dim)
    return source(BlockInputs(*(torch.randn((1, *size), generator=generator) for size in sizes)))


def images(count: int) -> Tensor:
    """References [1, 3, R, H, W] in [-1, 1]."""
    return torch.rand((1, 3, count, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1)) * 2 - 1


def given_alone(pipe: Any, count: int) -> Callable[[bool, list[int]], Hints]:
    """What `integral` needs, of streams that are opened with some of `count` images."""
    return lambda control, heard: hints(pipe, fed=control, images=images(count)[:, :, heard] if heard else None)


def hints_are_the_integral_over_levels(pipe: Any) -> None:
    for control, references in ((0.5, (0.25, 2.0, 1.0)), (1.5, (0.5, 1.0))):
        found = hints(pipe, images=images(len(references)), scales=references, control=control)
        assert close(found, integral(given_alone(pipe, len(references)), control, references)), (control, references)


def a_map_is_a_scale_for_every_token(pipe: Any) -> None:
    """Every token has the hint of the stream whose control has that token's scale everywhere."""
    values, references = (0.0, 0.25, 2.0), (0.5, 1.5)
    chosen = torch.from_numpy(np.random.default_rng(0).integers(0, 3, SHAPE))
    found = hints(pipe, images=images(2), scales=references, factors=torch.tensor(values)[chosen][None])
    for i, value in enumerate(values):
        tokens = (chosen == i).flatten()
        expected = integral(given_alone(pipe, 2), value, references)
        assert close(at_tokens(found, tokens), at_tokens(expected, tokens)), value


def a_ramp_is_a_scale_for_each_chunk(pipe: Any) -> None:
    """Linear between its points, constant outside."""
    down, up = Schedule(chunks=((0, 1.0), (2, 0.0))), Schedule(chunks=((1, 0.25), (3, 1.0)))
    ramp = HintScale(control=0.8, references=0.5, control_schedule=down, references_schedule=up)
    made = []
    with opened(pipe, references=[picture()]) as session:
        session.feed(frames(33), last=True)
        for control, references in ((0.8, 0.125), (0.4, 0.125), (0.0, 0.5 * 0.625)):
            session.update(scale=HintScale(control=control, references=references))
            made.append(next(session).latents.clone())
    assert same(stream(pipe, 3, scale=ramp, references=[picture()]), made)
