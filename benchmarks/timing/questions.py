"""What is asked of one size: each table is a list of groups, and a group is a set of arms that took turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from timing.clock import PartClock
from timing.rolled import rolled_longlive
from timing.sizes import Models
from timing.turns import Arm, Budget, Running, attempt, measure, rows, take_turns, to_first
from vace_adapt.context.references import ReferenceRows

Group = dict[str, Any]
"""``title``, ``rows`` (see `timing.turns.rows`) or ``skipped`` (why there are none), and what belongs to the table."""

SLOWER = 1.05
"""A stream is not flat if three of four of its late chunks take longer than this times a young stream's."""
SAME = 1e-3
"""Largest difference of the latents of two caches, relative to the largest latent, in float32."""
WINDOWS = (6, 12, 24)


class NotTheSameError(Exception):
    """Two implementations that are to be compared make different numbers."""


def split(models: Models, chunks: int, budget: Budget) -> list[Group]:
    """Where the time of a chunk goes, with and without control."""
    height, width = models.size.resolutions[0]
    pipe = models.pipeline()
    arm = partial(Arm, pipe, height, width)
    arms = {
        "base": arm(control=False),
        "control": arm(),
        "control, 1 reference, cached": arm(references=1),
        "control, 3 references, cached": arm(references=3),
        "control, 3 references, joint": arm(references=3, controls={"reference_form": "joint"}),
        "control, 1 reference, cached, in a slot": arm(references=1, controls={"reference_slots": 1}),
        "control, scale 0": arm(scale=0.0),
    }
    with PartClock(models.device).attached(models.base) as clock:
        return [group(f"{height}x{width}", arms, to_first(list(arms)), chunks, budget, clock)]


def growth(models: Models, chunks: int, budget: Budget) -> list[Group]:
    """What a chunk costs over the length of the stream, the resolution, the references, the window."""
    pipe, size = models.pipeline(), models.size
    height, width = size.resolutions[0]
    by_size: dict[str, Arm] = {}
    for h, w in size.resolutions:
        by_size[f"{h}x{w}, base"] = Arm(pipe, h, w, control=False)
        by_size[f"{h}x{w}, control"] = Arm(pipe, h, w)
    by_window: dict[str, Arm] = {}
    for window in WINDOWS:
        own = models.pipeline(window=window)
        by_window[f"window {window}, base"] = Arm(own, height, width, control=False)
        by_window[f"window {window}, control"] = Arm(own, height, width)
    by_count = {f"references: {count}": Arm(pipe, height, width, references=count) for count in (0, 1, 3)}
    return [
        length(Arm(pipe, height, width, references=1), chunks, budget.share(4)),
        group("resolution", by_size, _to_base(by_size), chunks, budget.share(3)),
        group("references", by_count, to_first(list(by_count)), chunks, budget.share(2)),
        group("window, latent frames", by_window, _to_base(by_window), chunks, budget),
    ]


def length(arm: Arm, chunks: int, budget: Budget) -> Group:
    """An old stream beside a young one that is like it. `flat` says whether the old one's chunks cost what the young
    one's cost, and its memory is as large.
    """

    def find() -> Group:
        with ExitStack() as stack:
            old = stack.enter_context(Running(arm))
            growing = budget.share(2)
            old.fill(budget)
            seconds: list[float] = []
            while len(seconds) < 3 * chunks and (growing.left or not seconds):
                seconds.append(old.make(budget).seconds)
            young = stack.enter_context(Running(arm))
            young.fill(budget)
            ages = {"young": young.made, "old": old.made}
            own = rows(take_turns({"young": young, "old": old}, chunks, budget), to_first(["young", "old"]))
            held = {"young": young.report.cache_bytes, "old": old.report.cache_bytes}
        flat = is_flat(own["old"]["ratio"], held["young"], held["old"])
        return {"rows": own, "chunks_before": ages, "cache_bytes": held, "seconds_of_old": seconds, "flat": flat}

    return _asked("length of the stream", find, arm.pipe.device)


def is_flat(ratio: list[float], young_bytes: int, old_bytes: int) -> bool:
    """Whether an old stream is no slower and holds no more than a young one.

    Args:
        ratio: quartiles of its chunks' times over the young one's.
        young_bytes, old_bytes: of their memories.
    """
    return ratio[0] <= SLOWER and young_bytes == old_bytes


def options(models: Models, chunks: int, budget: Budget) -> list[Group]:
    """Every cache and option off and on, against the default; control and one reference."""
    height, width = models.size.resolutions[0]

    def arm(pipe: Any, **controls: Any) -> Arm:
        return Arm(pipe, height, width, references=1, controls=controls)

    longlive = models.pipeline()
    ours = {
        "default": arm(longlive),
        "reference cache off": Arm(longlive, height, width, references=1, around=forgetting_references),
        "reference_form: joint": arm(longlive, reference_form="joint"),
        "reference_slots: 1": arm(longlive, reference_slots=1),
        "hint_reuse: 2": arm(longlive, hint_reuse=2),
        "hint_reuse: 4": arm(longlive, hint_reuse=4),
        "context_frames: 3": arm(longlive, context_frames=3),
        "kv_policy: with_hints": arm(longlive, kv_policy="with_hints"),
        "reanchor: before every chunk": arm(longlive, reanchor={"every": 1, "source": "sink"}),
        "rope: relative": arm(models.pipeline(rope="relative")),
    }
    banked = {
        "default": arm(models.pipeline("memflow")),
        "sparse: true": arm(models.pipeline("memflow", sparse=True)),
    }
    batched = {
        "default (stream_batch: true)": arm(models.pipeline("streamdiffusion")),
        "stream_batch: false": arm(models.pipeline("streamdiffusion", stream_batch=False)),
        "context_frames: 3": arm(models.pipeline("streamdiffusion"), context_frames=3),
    }
    return [
        group("longlive", ours, to_first(list(ours)), chunks, budget.share(2)),
        group("memflow", banked, to_first(list(banked)), chunks, budget.share(2)),
        group("streamdiffusion", batched, to_first(list(batched)), chunks, budget),
    ]


@contextmanager
def forgetting_references() -> Iterator[None]:
    """The reference rows are computed in every pass, as if nothing remembered them."""
    real = ReferenceRows.remembered

    def forgetful(self: ReferenceRows, *args: Any, **kwargs: Any) -> Any:
        self._made_for.clear()
        return real(self, *args, **kwargs)

    with patch.object(ReferenceRows, "remembered", forgetful):
        yield


def cache(models: Models, chunks: int, budget: Budget) -> list[Group]:
    """LongLive's ring, written in place, against a cache that is cloned and rolled: the same stream, the same numbers.

    Raises:
        NotTheSameError: their latents differ by more than rounding; only float32 tells.
    """
    height, width = models.size.resolutions[0]
    arms = {
        "ring, in place": Arm(models.pipeline(), height, width),
        "cloned and rolled": Arm(models.pipeline(hooks=rolled_longlive()), height, width),
    }
    differences: list[float] = []

    def find() -> Group:
        with ExitStack() as stack:
            streams = {name: stack.enter_context(Running(arm)) for name, arm in arms.items()}
            ring, rolled = streams.values()

            def compare() -> None:
                differences.append(float((ring.latents - rolled.latents).abs().max() / ring.latents.abs().max()))

            while not ring.full:
                ring.make(budget)
                rolled.make(budget)
                compare()
            times = take_turns(streams, chunks, budget, after=compare)
        return {"rows": rows(times, to_first(list(arms))), "largest_difference": max(differences)}

    found = _asked(f"{height}x{width}", find, models.device)
    if models.dtype == torch.float32 and not all(difference <= SAME for difference in differences):
        raise NotTheSameError(f"the rolled cache makes latents that differ by {max(differences):.1e} of the largest")
    return [found]


def group(
    title: str,
    arms: Mapping[str, Arm],
    against: Mapping[str, str],
    chunks: int,
    budget: Budget,
    clock: PartClock | None = None,
) -> Group:
    """Time arms together."""
    device = next(iter(arms.values())).pipe.device
    return _asked(title, lambda: {"rows": rows(measure(arms, chunks, budget, clock), against)}, device)


def _asked(title: str, find: Callable[[], Group], device: torch.device) -> Group:
    """What was found, or why nothing was."""
    found: Group = {"title": title}
    if reason := attempt(lambda: found.update(find()), device):
        found["skipped"] = reason
    return found


def _to_base(names: Mapping[str, Arm]) -> dict[str, str]:
    """``X, control`` is compared with ``X, base``."""
    return {name: name.replace("control", "base") for name in names}


TABLES: dict[str, Callable[[Models, int, Budget], list[Group]]] = {
    "split": split,
    "growth": growth,
    "options": options,
    "cache": cache,
}
