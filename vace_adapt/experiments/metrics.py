"""What a run measured, and what is needed to repeat it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from vace_adapt.config.settings import RunSettings
from vace_adapt.contract import ChunkReport
from vace_adapt.streaming.pipeline import Pipeline


class Metrics:
    """Collects the reports of a run's chunks."""

    def __init__(self, settings: RunSettings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._chunks: list[ChunkReport] = []

    def add(self, report: ChunkReport) -> None:
        self._chunks.append(report)

    def summary(self, *, interrupted: bool) -> dict[str, Any]:
        """Plain values: times in seconds, memory in bytes."""
        seconds = [chunk.seconds for chunk in self._chunks]
        steady = seconds[1:] or seconds
        frames = sum(chunk.pixels for chunk in self._chunks)
        return {
            "pipeline": self._settings.pipeline.name,
            "task": self._settings.task.name,
            "trained": self._pipeline.parts.trained,
            "interrupted": interrupted,
            "frames": frames,
            "seconds": sum(seconds),
            "fps": frames / sum(seconds),
            "first_chunk_seconds": seconds[0],
            "chunk_seconds_median": statistics.median(steady),
            "cache_bytes": self._chunks[-1].cache_bytes,
            "peak_memory_bytes": max(chunk.peak_memory_bytes for chunk in self._chunks),
            "device": str(self._pipeline.device),
            "dtype": str(self._pipeline.dtype).removeprefix("torch."),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "diffusers": importlib.metadata.version("diffusers"),
                "vace-adapt": importlib.metadata.version("vace-adapt"),
                "plugin": self._pipeline.hooks.distribution,
            },
            "chunks": [{**asdict(chunk), "fps": chunk.fps} for chunk in self._chunks],
        }

    def save(self, path: Path, *, interrupted: bool) -> None:
        """Write ``metrics.json``."""
        _write(path, json.dumps(self.summary(interrupted=interrupted), indent=2) + "\n")

    def save_config(self, path: Path) -> None:
        """Write the resolved configuration as YAML."""
        _write(path, yaml.safe_dump(self._settings.model_dump(mode="json"), sort_keys=False))


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)
