"""Latency and memory of the real shapes: each stream beside the base alone, at every resolution.

Two streams at a time, so that the largest model fits. What a stream needs is its peak while it alone runs, less what
the other holds.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from timing.questions import Group
from timing.sizes import Models, Size
from timing.turns import Arm, Budget, Running, attempt, rows, take_turns
from vace_adapt.streaming.pipeline import Pipeline

BASE = "base"
ARMS: dict[str, dict[str, Any]] = {
    "+ 3 references": {"control": False, "references": 3},
    "+ depth": {},
    "+ 3 references + depth": {"references": 3},
}
"""Depth stands for any ready-made control video: the annotator's own time is not in it."""


def latency(
    size: Size, device: torch.device, dtype: torch.dtype, chunks: int, budget: Budget, *, compiled: bool = False
) -> list[Group]:
    """One group for each resolution.

    Args:
        size: of the models, which are built here.
        device, dtype: of them.
        chunks: rounds at most.
        budget: for all of it; what has begun when it ends may end one chunk late.
        compiled: whether blocks run under `torch.compile`.
    """
    groups: list[Group] = [{"title": f"{height}x{width}"} for height, width in size.resolutions]
    built: list[tuple[Pipeline, Pipeline, int]] = []

    def build() -> None:
        models = Models(size, device, dtype, compiled=compiled)
        bare, controlled = models.pipeline(control=False), models.pipeline()
        weights = models.context().parameters()
        built.append((bare, controlled, sum(weight.numel() * weight.element_size() for weight in weights)))

    if reason := attempt(build, device):
        return [group | {"skipped": reason} for group in groups]
    for number, (group, resolution) in enumerate(zip(groups, size.resolutions, strict=True)):
        _measure(group, *built[0], resolution, chunks, budget.share(len(groups) - number))
    return groups


@dataclass(frozen=True)
class _Base:
    """The base's stream, and what it holds while others run (None where the device does not tell)."""

    stream: Running
    held: int | None


def _measure(
    group: Group,
    bare: Pipeline,
    controlled: Pipeline,
    context_bytes: int,
    resolution: tuple[int, int],
    chunks: int,
    budget: Budget,
) -> None:
    """Everything at one resolution: the base's stream stays open while the others run beside it, one after another."""
    device = bare.device
    own: dict[str, dict[str, Any]] = {BASE: {}}
    opened: list[_Base] = []
    with ExitStack() as stack:

        def open_base() -> None:
            before = _allocated(device)
            stream = stack.enter_context(Running(Arm(bare, *resolution, control=False)))
            _fill(stream, budget, own[BASE], context_bytes)
            held = _allocated(device)
            opened.append(_Base(stream, None if held is None or before is None else held - before))

        if reason := attempt(open_base, device):
            group["skipped"] = reason
            return
        for number, (name, options) in enumerate(ARMS.items()):
            arm, row = Arm(controlled, *resolution, **options), own.setdefault(name, {})
            share = budget.share(len(ARMS) - number)
            if reason := attempt(partial(_beside, opened[0], arm, chunks, share, row), device):
                row["skipped"] = reason
    _summarise(own)
    group["rows"] = own


def _beside(base: _Base, arm: Arm, chunks: int, budget: Budget, row: dict[str, Any]) -> None:
    """A stream's memory, and its time beside the base; each is put into the row as it is found."""
    with Running(arm) as stream:
        _fill(stream, budget, row, base.held or 0)
        times = take_turns({BASE: base.stream, "own": stream}, chunks, budget)
    both = rows(times, {BASE: BASE, "own": BASE})
    row.update(both["own"], base_seconds=both[BASE]["seconds"], frames=stream.report.pixels)


def _fill(stream: Running, budget: Budget, row: dict[str, Any], others: int) -> None:
    """Fill a stream's memory; the peak on the way, less the bytes of others, and what the stream remembers."""
    device = stream.arm.pipe.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    stream.fill(budget)
    stream.make(budget)
    row["peak_bytes"] = torch.cuda.max_memory_allocated(device) - others if device.type == "cuda" else None
    row["cache_bytes"] = stream.report.cache_bytes


def _allocated(device: torch.device) -> int | None:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else None


def _summarise(own: dict[str, dict[str, Any]]) -> None:
    """The base's time is the median of its times beside the others."""
    beside = [row for row in own.values() if "base_seconds" in row]
    if beside:
        seconds = statistics.median(row["base_seconds"] for row in beside)
        chunks = sum(row["chunks"] for row in beside)
        own[BASE] |= {"seconds": seconds, "ratio": [1.0] * 3, "frames": beside[0]["frames"], "chunks": chunks}
