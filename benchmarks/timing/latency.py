"""Latency and memory of the real shapes: each stream beside the base alone, at every resolution.

The models are built here, the base first: its memory is measured before there is a context path.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
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
        size: of the models.
        device, dtype: of them.
        chunks: rounds at most.
        budget: for all of it; the last measurement may end one chunk late.
        compiled: whether blocks run under `torch.compile`.
    """
    groups: list[Group] = [{"title": f"{height}x{width}", "rows": {}} for height, width in size.resolutions]
    built: list[Models] = []

    def build() -> None:
        built.append(Models(size, device, dtype, compiled=compiled))

    if skipped := attempt(build, device):
        return [group | {"skipped": skipped} for group in groups]
    (models,) = built
    bare = models.pipeline(control=False)
    controlled: list[Pipeline] = []
    for group, resolution in zip(groups, size.resolutions, strict=True):
        _row(group, BASE, partial(_alone, Arm(bare, *resolution, control=False), device, budget), device)
    if skipped := attempt(lambda: controlled.append(models.pipeline()), device):
        return [group | {"skipped": f"context path: {skipped}"} for group in groups]
    left = len(groups) * len(ARMS)
    for group, resolution in zip(groups, size.resolutions, strict=True):
        base = Arm(bare, *resolution, control=False)
        for name, options in ARMS.items():
            arm = Arm(controlled[0], *resolution, **options)
            _row(group, name, partial(_beside, base, arm, device, chunks, budget.share(left)), device)
            left -= 1
        _summarise(group["rows"])
    return groups


def _summarise(own: dict[str, dict[str, Any]]) -> None:
    """The base's time is the median of its times beside the others."""
    beside = [row for row in own.values() if "base_seconds" in row]
    if beside:
        seconds = statistics.median(row["base_seconds"] for row in beside)
        chunks = sum(row["chunks"] for row in beside)
        own[BASE] |= {"seconds": seconds, "ratio": [1.0] * 3, "frames": beside[0]["frames"], "chunks": chunks}


Measure = Callable[[dict[str, Any]], object]
"""Puts what it finds into a row, one thing after another, so that it stays there if the next one fails."""


def _row(group: Group, name: str, measure: Measure, device: torch.device) -> None:
    """Put a measurement into a group, and why it is not whole where it is not."""
    row = group["rows"][name] = {}
    if skipped := attempt(lambda: measure(row), device):
        row["skipped"] = skipped


def _alone(arm: Arm, device: torch.device, budget: Budget, row: dict[str, Any]) -> None:
    """Memory of a stream that has the device to itself."""
    with Running(arm) as stream:
        _fill(stream, device, budget, row)


def _fill(stream: Running, device: torch.device, budget: Budget, row: dict[str, Any]) -> None:
    """Fill a stream's memory; what is held then, and the peak on the way (None where the device does not tell)."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    stream.fill(budget)
    stream.make(budget)
    row["peak_bytes"] = torch.cuda.max_memory_allocated(device) if cuda else None
    row["cache_bytes"] = stream.report.cache_bytes


def _beside(base: Arm, arm: Arm, device: torch.device, chunks: int, budget: Budget, row: dict[str, Any]) -> None:
    """A stream's memory, alone; then its time beside the base."""
    with ExitStack() as stack:
        own = stack.enter_context(Running(arm))
        _fill(own, device, budget, row)
        other = stack.enter_context(Running(base))
        other.fill(budget)
        times = take_turns({BASE: other, "own": own}, chunks, budget)
    both = rows(times, {BASE: BASE, "own": BASE})
    row.update(both["own"], base_seconds=both[BASE]["seconds"], frames=own.report.pixels)
