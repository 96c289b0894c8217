"""How strongly hints act, over inputs, layers, frames, chunks and denoise steps. Importing this does not import
torch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from vace_adapt.contract import Frozen

LARGEST_SCALE = 100
"""Far beyond any use; a factor without a bound could overflow."""

Points = tuple[tuple[int, float], ...]
"""Numbers and the factor at each."""


class Schedule(Frozen):
    """A factor for every chunk and denoise step: one over the chunks times one over the steps.

    Between two points it changes linearly, before the first and behind the last it stays as it is there. Two
    neighbouring numbers make a jump.

    Attributes:
        chunks: chunk numbers, ascending from 0 or more, and the factor at each, within 0..100; empty means 1.
        steps: the same over the denoise steps of a chunk, which count from 0.
        start_step: first step at which the factor is not 0.
        end_step: first step at which it is 0 again, or None for never.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # refused below, in the same words as other factors

    chunks: Points = ()
    steps: Points = ()
    start_step: Annotated[int, Field(ge=0)] = 0
    end_step: Annotated[int, Field(ge=1)] | None = None

    @field_validator("chunks", "steps")
    @classmethod
    def _ascend(cls, points: Points, info: ValidationInfo) -> Points:
        numbers = [number for number, _ in points]
        if numbers != sorted(set(numbers)) or any(number < 0 for number in numbers):
            raise ValueError(f"numbers of {info.field_name} must ascend from 0 or more, not {numbers}")
        for _, factor in points:
            _check_factor(factor)
        return points

    @model_validator(mode="after")
    def _window_is_not_empty(self) -> Schedule:
        if self.end_step is not None and self.end_step <= self.start_step:
            raise ValueError(f"end_step must be over start_step {self.start_step}, not {self.end_step}")
        return self

    @property
    def last_step(self) -> int:
        """The largest step that is spoken of; a model with fewer steps does not fit."""
        return max(self.start_step, (self.end_step or 1) - 1, *(step for step, _ in self.steps))

    def at(self, chunk: int, step: int) -> float:
        """The factor at step `step` of chunk number `chunk`."""
        return _interpolated(self.chunks, chunk) * self.over_steps(step)

    def over_steps(self, step: int) -> float:
        """The part of the factor that comes from the denoise step."""
        if step < self.start_step or (self.end_step is not None and step >= self.end_step):
            return 0.0
        return _interpolated(self.steps, step)


class HintScale(Frozen):
    """How strongly hints act: factors, all finite and within 0..100; 1 is VACE as trained. In a configuration a number
    stands for both scales.

    The hint of layer j on latent frame f of a chunk is multiplied by ``layers[j] * frames[f]`` and by the scales of
    what caused it: ``control`` times its schedule for the control, ``references`` times its schedule times each
    reference's own scale for the references. Equal scales give VACE's own hint times the scale. Where they differ, the
    hint is the integral over a level v from 0 of the hint made with exactly those inputs whose scale exceeds v: for two
    inputs, the smaller scale is applied to the hint of both together, and the excess to the hint of the stronger one
    alone. A scale of 0 is the same as not giving that input, and everything between is continuous. Every further level
    costs a context pass; see `vace_adapt.context.parts`.

    Attributes:
        control: scale of control frames and masks.
        references: scale of the references.
        layers: one factor for each context layer, or None for 1.
        frames: one factor for each latent frame of the longest chunk, or None for 1; a shorter first chunk uses the
            leading ones.
        control_schedule: multiplies `control` chunk by chunk and step by step. A step at which nothing acts runs
            without the context path. A clean pass with hints has the factor of the last step.
        references_schedule: the same for `references`.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # refused below, in the same words as other factors

    control: float = 1.0
    references: float = 1.0
    layers: tuple[float, ...] | None = None
    frames: tuple[float, ...] | None = None
    control_schedule: Schedule = Schedule()
    references_schedule: Schedule = Schedule()

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, given: Any) -> Any:
        number = isinstance(given, (int, float)) and not isinstance(given, bool)
        return {"control": given, "references": given} if number else given

    @field_validator("control", "references", "layers", "frames")
    @classmethod
    def _in_range(cls, value: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
        for factor in () if value is None else value if isinstance(value, tuple) else (value,):
            _check_factor(factor)
        return value

    def control_at(self, chunk: int, step: int) -> float:
        """Scale of a control at a step of a chunk; 0 where no layer or no frame would take its hints."""
        return 0.0 if self.silent else self.control * self.control_schedule.at(chunk, step)

    def references_at(self, chunk: int, step: int) -> float:
        """Scale of the references at a step of a chunk, before each one's own; 0 as in `control_at`."""
        return 0.0 if self.silent else self.references * self.references_schedule.at(chunk, step)

    @property
    def silent(self) -> bool:
        """Whether no layer or no frame would take any hint."""
        return not any(self.layers or (1.0,)) or not any(self.frames or (1.0,))


def _check_factor(factor: float) -> None:
    if not 0 <= factor <= LARGEST_SCALE:
        raise ValueError(f"a scale must be within 0..{LARGEST_SCALE}, not {factor}")


def _interpolated(points: Points, number: int) -> float:
    if not points:
        return 1.0
    if number <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in pairwise(points):
        if number < right:
            return low + (high - low) * (number - left) / (right - left)
    return points[-1][1]
