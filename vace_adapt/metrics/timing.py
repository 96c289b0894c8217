"""Time and memory of a run, from the reports of its chunks (``metrics.json``)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Chunks = Sequence[Mapping[str, Any]]
"""Each as a `vace_adapt.contract.ChunkReport` in plain values."""


def first_frame_latency(chunks: Chunks) -> float:
    """Seconds from asking for the stream's first frame to having it, which is its first chunk; loading not included."""
    return float(chunks[0]["seconds"])


def chunk_latency(chunks: Chunks) -> float:
    """Median seconds of a chunk; the first, which warms up and is shorter, does not count where there are others."""
    return float(statistics.median(_steady(chunks)))


def chunk_latency_p95(chunks: Chunks) -> float:
    """Seconds that 95 of 100 chunks do not take longer than, with linear interpolation; the first as above."""
    ordered = sorted(_steady(chunks))
    place = 0.95 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def frames_per_second(chunks: Chunks) -> float:
    """Frames made over seconds taken, all chunks together."""
    return float(sum(chunk["pixels"] for chunk in chunks) / sum(chunk["seconds"] for chunk in chunks))


def peak_memory(chunks: Chunks) -> float:
    """Largest memory in MiB: of the device (CUDA), or of the process."""
    return max(chunk["peak_memory_bytes"] for chunk in chunks) / 2**20


def cache_memory(chunks: Chunks) -> float:
    """Memory in MiB of what the stream remembers, at its last chunk; see `ChunkReport.cache_bytes`."""
    return float(chunks[-1]["cache_bytes"] / 2**20)


def _steady(chunks: Chunks) -> list[float]:
    seconds = [float(chunk["seconds"]) for chunk in chunks]
    return seconds[1:] or seconds
