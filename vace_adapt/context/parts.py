"""The context passes of a denoise step, and how strongly each acts.

Every input has a scale: the control c, which may differ from token to token, and reference i r_i. The hint of a step is
the integral over a level v from 0 of the hint made with exactly those inputs whose scale exceeds v (the Choquet
integral of the hint as a function of the set of inputs; G. Choquet, Theory of capacities, 1954). The references heard
at a level are nested sets, largest first: between the neighbouring scales low and high, exactly those with r_i >= high.
Such a set takes part in at most two passes:

    with the control, factor max(min(c, high) - low, 0);
    without it, factor max(high - max(low, c), 0); only where the set is not empty, and high is then finite.

Passes whose factor is 0 everywhere are not run, so equal scales take a single one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from vace_adapt.errors import InputError
from vace_adapt.scale import LARGEST_SCALE, HintScale

NEGLIGIBLE = 1e-6
"""A pass whose factor is nowhere over this is not run: scales that differ by rounding are equal."""


class Part(NamedTuple):
    """One context pass.

    Attributes:
        factor: one for all tokens, or float32 [B, L, 1].
        control: whether the control is given.
        references: which references are given, ascending.
    """

    factor: float | Tensor
    control: bool
    references: tuple[int, ...]


def control_scales(
    scale: HintScale, chunk: int, steps: int, factors: Tensor | None, shape: tuple[int, int, int, int]
) -> list[Tensor]:
    """Scale of a control at every step of a chunk.

    Args:
        scale: the stream's.
        chunk: its number.
        steps: denoise steps of a chunk.
        factors: [S, B, F, rows, columns] within 0..100, S being 1 or `steps`; None for 1 everywhere.
        shape: B, F, rows and columns of the chunk's tokens.

    Returns:
        For each step, float64 on the CPU: [] for all tokens, or [B, L, 1].

    Raises:
        InputError: factors of another shape, or outside 0..100.
    """
    numbers = [scale.control_at(chunk, step) for step in range(steps)]
    if factors is None:
        return [torch.tensor(number, dtype=torch.float64, device="cpu") for number in numbers]
    if factors.ndim != 5 or factors.shape[1:] != shape or factors.shape[0] not in (1, steps):
        raise InputError(
            f"control factors of chunk {chunk} are {list(factors.shape)}, "
            f"expected [1 or {steps}, {', '.join(map(str, shape))}]"
        )
    low, high = (float(bound) for bound in factors.aminmax())
    if not 0 <= low <= high <= LARGEST_SCALE:
        raise InputError(f"control factors of chunk {chunk} must be within 0..{LARGEST_SCALE}, not {low}..{high}")
    maps = rearrange(factors.to("cpu", torch.float64), "s b f r c -> s b (f r c) 1").expand(steps, -1, -1, -1)
    return [number * one for number, one in zip(numbers, maps, strict=True)]


def parts(control: Tensor, references: Sequence[float], device: torch.device) -> list[Part]:
    """The context passes of one step; empty where nothing would be added.

    Args:
        control: scale of the control as `control_scales` gives it; 0 where there is none.
        references: scale of each reference.
        device: where factors by token are used.
    """
    found = []
    for heard, low, high in levels(references):
        factors = {True: with_control(control, low, high)}
        if heard:
            factors[False] = without_control(control, low, high)
        found += [
            Part(_plain(factor, device), given, heard) for given, factor in factors.items() if factor.max() > NEGLIGIBLE
        ]
    return found


def levels(references: Sequence[float]) -> Iterator[tuple[tuple[int, ...], float, float]]:
    """The nested sets of references by their scales, largest first, and between which levels each is heard.

    The last set is empty and has no upper bound. References of scale 0 are in none.
    """
    bounds = [0.0, *sorted({scale for scale in references if scale > 0}), math.inf]
    for low, high in pairwise(bounds):
        yield tuple(i for i, scale in enumerate(references) if scale >= high), low, high


def with_control(control: Tensor, low: float, high: float) -> Tensor:
    """How many of the levels between low and high are below the control's scale."""
    return (control.clamp(max=high) - low).clamp(min=0)


def without_control(control: Tensor, low: float, high: float) -> Tensor:
    """How many of them are above it."""
    return (high - control.clamp(min=low)).clamp(min=0)


def _plain(factor: Tensor, device: torch.device) -> float | Tensor:
    """One number where the factor is the same for all tokens."""
    low, high = factor.aminmax()
    return float(low) if low == high else factor.to(device, torch.float32)
