"""What a run measured while it went on: time and memory of every chunk."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vace_adapt.config.settings import RunSettings
from vace_adapt.contract import ChunkReport


@dataclass(frozen=True)
class Runner:
    """What a run runs on.

    Attributes:
        trained: False for random weights.
        device, dtype: as torch names them.
    """

    trained: bool
    device: str
    dtype: str


def summary(
    settings: RunSettings, runner: Runner, chunks: Sequence[ChunkReport], *, interrupted: bool
) -> dict[str, Any]:
    """Plain values of ``metrics.json``: times in seconds, memory in bytes."""
    seconds = [chunk.seconds for chunk in chunks]
    frames = sum(chunk.pixels for chunk in chunks)
    return {
        "pipeline": settings.pipeline.name,
        "task": settings.task.name,
        "trained": runner.trained,
        "interrupted": interrupted,
        "frames": frames,
        "seconds": sum(seconds),
        "fps": frames / sum(seconds),
        "first_chunk_seconds": seconds[0],
        "chunk_seconds_median": statistics.median(seconds[1:] or seconds),
        "cache_bytes": chunks[-1].cache_bytes,
        "peak_memory_bytes": max(chunk.peak_memory_bytes for chunk in chunks),
        "device": runner.device,
        "dtype": runner.dtype,
        "chunks": [{**asdict(chunk), "fps": chunk.fps} for chunk in chunks],
    }
