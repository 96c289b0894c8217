"""Streams that take turns chunk by chunk, so that whatever else the machine does falls on all of them alike.

Every claim is a ratio of two chunks of the same round. Chunks are counted from the moment the memory is full.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timing.clock import PartClock
from vace_adapt.contract import ChunkReport
from vace_adapt.streaming.pipeline import Pipeline

LEAST = 2
"""Rounds without which there are no quartiles."""


class OutOfTimeError(Exception):
    """The time ended before a measurement had `LEAST` rounds."""


class Budget:
    """Time that may still be spent, and shares of it: the end of a share shortens a measurement, the end of the whole
    ends everything.

    Args:
        seconds: in all.
        now: a clock in seconds.
        whole: what it is a share of.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic, whole: Budget | None = None) -> None:
        self._now = now
        self._end = now() + seconds
        self._whole = whole or self

    @property
    def left(self) -> float:
        """Seconds; 0 at the end."""
        return max(0.0, self._end - self._now())

    def share(self, of: int) -> Budget:
        """An equal part of what is left, of so many."""
        return Budget(self.left / of, self._now, self._whole)

    def check(self) -> None:
        """Raises: OutOfTimeError: nothing is left of the whole."""
        if not self._whole.left:
            raise OutOfTimeError


def attempt(do: Callable[[], object], device: torch.device) -> str | None:
    """Do something if there are time and memory for it; otherwise say why not."""
    try:
        do()
        return None
    except OutOfTimeError:
        return "not enough time"
    except torch.OutOfMemoryError:
        pass  # its tensors go with it
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return "does not fit into the memory"


@dataclass(frozen=True)
class Arm:
    """A stream to be timed.

    Attributes:
        pipe: what makes it.
        height, width: pixels.
        control: whether a ready-made control video is fed.
        references: how many.
        scale: of all hints; None for the default.
        controls: further options of the stream.
        around: within what its chunks are made.
    """

    pipe: Pipeline
    height: int
    width: int
    control: bool = True
    references: int = 0
    scale: float | None = None
    controls: Mapping[str, Any] = field(default_factory=dict)
    around: Callable[[], AbstractContextManager[object]] = nullcontext


class Running(AbstractContextManager["Running"]):
    """An arm's open stream.

    Attributes:
        latents: of the newest chunk.
        report: of it.
    """

    latents: Tensor
    report: ChunkReport

    def __init__(self, arm: Arm) -> None:
        rng = np.random.default_rng(0)
        size = (arm.height, arm.width, 3)
        self.arm = arm
        self.made = 0
        self.session = arm.pipe.stream(
            "a red ball",
            height=arm.height,
            width=arm.width,
            references=[rng.integers(0, 256, size, dtype=np.uint8)] * arm.references,
            scale=arm.scale,
            controls=dict(arm.controls),
        )
        time_map = self.session.shapes.time
        self._video = rng.integers(0, 256, (max(map(time_map.pixels, (0, 1))), *size), dtype=np.uint8)
        self._fed = 0
        self._full = next(i for i in range(10_000) if time_map.latent_start(i) >= self.session.cache.layout.slots)

    def __exit__(self, *error: object) -> None:
        self.session.close()

    @property
    def full(self) -> bool:
        """Whether the memory is full, so that chunks cost what they will cost from here on."""
        return self.made >= self._full

    def make(self, budget: Budget, clock: PartClock | None = None) -> Taken:
        """One chunk.

        Raises:
            OutOfTimeError: there is no time for it.
        """
        budget.check()
        while self.arm.control and self._fed < self.made + self.arm.pipe.parts.chunks_at_once:
            self.session.feed(self._video[: self.session.shapes.time.pixels(self._fed)])
            self._fed += 1
        if clock is not None:
            clock.start()
        with self.arm.around():
            chunk = next(self.session)
        parts = {} if clock is None else clock.stop()
        self.made += 1
        self.latents, self.report = chunk.latents, chunk.report
        return Taken(chunk.report.seconds, parts)

    def fill(self, budget: Budget) -> None:
        """Chunks until the memory is full."""
        while not self.full:
            self.make(budget)


@dataclass(frozen=True)
class Taken:
    """Seconds of one chunk, and of its parts where there was a clock."""

    seconds: float
    parts: Mapping[str, float]


Times = dict[str, list[Taken]]
"""By arm, round by round."""


def take_turns(
    streams: Mapping[str, Running],
    chunks: int,
    budget: Budget,
    clock: PartClock | None = None,
    after: Callable[[], None] = lambda: None,
) -> Times:
    """Rounds of one chunk of each stream; whose turn comes first rotates.

    Args:
        streams: with full memories.
        chunks: rounds at most.
        budget: ends them before, once there are `LEAST`.
        clock: for the parts.
        after: called after each round.

    Raises:
        OutOfTimeError: fewer than `LEAST` rounds.
    """
    names = list(streams)
    times: Times = {name: [] for name in names}
    for number in range(chunks):
        if number >= LEAST and not budget.left:
            break
        first = number % len(names)
        try:
            taken = {name: streams[name].make(budget, clock) for name in names[first:] + names[:first]}
        except OutOfTimeError:
            if number < LEAST:
                raise
            break
        for name in names:
            times[name].append(taken[name])
        after()
    return times


def measure(arms: Mapping[str, Arm], chunks: int, budget: Budget, clock: PartClock | None = None) -> Times:
    """Open, fill and time all arms together."""
    with ExitStack() as stack:
        streams = {name: stack.enter_context(Running(arm)) for name, arm in arms.items()}
        for stream in streams.values():
            stream.fill(budget)
        return take_turns(streams, chunks, budget, clock)


def rows(times: Times, against: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Median seconds of every arm, its parts, and the quartiles of the ratios to another arm's chunk of the same round.

    Args:
        times: of all arms.
        against: of each arm, the one that it is compared with.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, taken in times.items():
        other = times[against[name]]
        row: dict[str, Any] = {
            "seconds": statistics.median(one.seconds for one in taken),
            "against": against[name],
            "ratio": quartiles(a.seconds / b.seconds for a, b in zip(taken, other, strict=True)),
            "chunks": len(taken),
        }
        if taken[0].parts:
            row["parts"] = {part: statistics.median(one.parts[part] for one in taken) for part in taken[0].parts}
            row["ratio_without_vae"] = quartiles(
                _without_vae(a) / _without_vae(b) for a, b in zip(taken, other, strict=True)
            )
        found[name] = row
    return found


def _without_vae(taken: Taken) -> float:
    return sum(seconds for part, seconds in taken.parts.items() if part not in ("encode", "decode"))


def quartiles(values: Iterable[float]) -> list[float]:
    """25, 50 and 75 %."""
    return statistics.quantiles(values, n=4, method="inclusive")


def to_first(names: Sequence[str]) -> dict[str, str]:
    """Everything is compared with the first."""
    return dict.fromkeys(names, names[0])
