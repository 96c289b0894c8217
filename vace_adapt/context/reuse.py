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
    """The hints that the chunks at work have made last and may add again: one set of each at most.

    Args:
        chunks: how many are at work at once; of any more, the oldest are let go.
    """

    def __init__(self, chunks: int = 1) -> None:
        self._chunks = chunks
        self._made: dict[object, tuple[int, Hints]] = {}

    def of(self, chunk: object, step: int) -> Hints | None:
        """What this chunk has made at this step, or None where it has been let go."""
        made_at, hints = self._made.get(chunk, (None, {}))
        return hints if made_at == step else None

    def keep(self, chunk: object, step: int, hints: Hints) -> None:
        self._made[chunk] = step, hints

    def drop(self, chunk: object) -> None:
        """Make room for what a chunk makes next."""
        self._made.pop(chunk, None)
        while len(self._made) >= self._chunks:
            self._made.pop(next(iter(self._made)))

    def tensors(self) -> dict[str, Tensor]:
        """What is kept, by name."""
        sets = [hints for _, hints in self._made.values()]
        return (
            {f"hints.{layer}": hint for layer, hint in sets[0].items()}
            if len(sets) == 1
            else {f"hints.{i}.{layer}": hint for i, hints in enumerate(sets) for layer, hint in hints.items()}
        )


def _equal(a: StepScales, b: StepScales) -> bool:
    return a[1] == b[1] and torch.equal(a[0], b[0])
