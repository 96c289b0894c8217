"""Hints that are added again at later denoise steps of a chunk (``controls.hint_reuse``): which, and where they lie.

Lossy: hints depend on the noisy latents and on the timestep, and those of another step are not this step's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vace_adapt.contract import Hints

StepScales = tuple[Tensor, list[float]]
"""Scale of the control at a step, as `vace_adapt.context.parts.control_scales` gives it, and of each reference."""


def made_at(scales: Sequence[StepScales], every: int) -> list[int]:
    """For every denoise step of a chunk the step at which its hints are made; its own where they are made anew.

    They are made anew at steps 0, every, 2 * every, ..., and where the scales are not those of the step at which hints
    were made last. A step at which nothing acts needs none, and those behind it may still add the ones before it.

    Args:
        scales: of every step.
        every: 1 or more; 1 makes every step's own.
    """
    found: list[int] = []
    last: int | None = None
    for step, (control, references) in enumerate(scales):
        if step % every == 0:
            last = None
        acts = bool(control.any()) or any(references)
        if acts and (last is None or not _equal(scales[last], scales[step])):
            last = step
        found.append(step if last is None or not acts else last)
    return found


class LastHints:
    """The hints that a stream has made last and may add again: one set at most."""

    def __init__(self) -> None:
        self._made_for: object = None
        self._hints: Hints = {}

    def of(self, made_for: object) -> Hints | None:
        """What was kept under this name, or None where it has been let go."""
        return self._hints if self._made_for == made_for else None

    def keep(self, made_for: object, hints: Hints) -> None:
        self._made_for, self._hints = made_for, hints

    def drop(self) -> None:
        """Let them go, before others are made."""
        self._made_for, self._hints = None, {}

    def tensors(self) -> dict[str, Tensor]:
        """What is kept, by name."""
        return {f"hints.{layer}": hint for layer, hint in self._hints.items()}


def _equal(a: StepScales, b: StepScales) -> bool:
    return a[1] == b[1] and torch.equal(a[0], b[0])
