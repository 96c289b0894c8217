"""What `controls.hint_reuse` must amount to: the hints of every pass recorded as they are made, and put in again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

from support import frames, opened, picture, same
from torch import Tensor

from vace_adapt.context.chunk import ChunkContext
from vace_adapt.contract import HintSource
from vace_adapt.scale import HintScale, Schedule

FADING = HintScale(control_schedule=Schedule(steps=((1, 1.0), (2, 0.5))))
LATE = HintScale(control_schedule=Schedule(start_step=1))

PLANS: dict[str, tuple[dict[str, Any], Sequence[int]]] = {
    "clean passes with hints": ({"controls": {"hint_reuse": 4, "kv_policy": "with_hints"}}, (0, 0, 0, 0)),
    "once a chunk, scales change": ({"controls": {"hint_reuse": 4}, "scale": FADING}, (0, 0, 2, 2)),
    "once a chunk, begins late": ({"controls": {"hint_reuse": 4}, "scale": LATE}, (0, 1, 1, 1)),
    "2": ({"controls": {"hint_reuse": 2}}, (0, 0, 2, 2)),
    "3": ({"controls": {"hint_reuse": 3}}, (0, 0, 0, 3)),
}
"""Options of a stream, and for each denoise step the one at which its hints are made."""


def recorded(pipe: Any, options: dict[str, Any]) -> list[Tensor]:
    """Latents of every chunk, and the keys in the cache behind the last; over a prompt switch."""
    with opened(pipe, references=[picture()], **options) as session:
        session.feed(frames(21), last=True)
        made = []
        for index in range(2):
            if index == 1:
                session.update(prompt="a dog")
            made.append(next(session).latents.clone())
        return [*made, session.cache.ring.keys.clone()]


def replayed(pipe: Any, options: dict[str, Any], steps: Sequence[int]) -> list[Tensor]:
    """The same without reuse, but what `steps` says is recorded at one step is added at another."""
    real, tape = ChunkContext.source, {}

    def source(self, step, sigma):
        own = real(self, step, sigma)
        if own is None:
            return None

        def made(inputs):
            tape[id(self), step] = own(inputs)
            return tape[id(self), step]

        def again(inputs):
            return tape[id(self), steps[step]]

        return HintSource(made if step < 0 or steps[step] == step else again)

    controls = {**options["controls"], "hint_reuse": 1}
    with mock.patch.object(ChunkContext, "source", source):
        return recorded(pipe, {**options, "controls": controls})


def reused_hints_are_those_recorded(pipe: Any) -> None:
    for name, (options, steps) in PLANS.items():
        assert same(recorded(pipe, options), replayed(pipe, options, steps)), name
