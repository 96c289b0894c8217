"""A finished run, read back from its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vace_adapt.config.settings import RunSettings
from vace_adapt.errors import InputError, VaceAdaptError
from vace_adapt.experiments.output import CONFIG, CONTROL, MASK, METRICS, VIDEO
from vace_adapt.experiments.record import RECORD, Record, read_record
from vace_adapt.experiments.rerun import settings_of_run
from vace_adapt.video.read import probe, read_frames

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FinishedRun:
    """What a run folder holds.

    Attributes:
        folder: the run's.
        record: what it depended on.
        config: its configuration in plain values.
        metrics: time and memory, as ``metrics.json`` has them.
        settings: the configuration, validated; None where its inputs are gone or no plugin reads it any more.
        missing: why `settings` is None.
    """

    folder: Path
    record: Record
    config: dict[str, Any]
    metrics: dict[str, Any]
    settings: RunSettings | None
    missing: str

    @property
    def pixels(self) -> list[int]:
        """Frames of each chunk."""
        return [chunk["pixels"] for chunk in self.metrics["chunks"]]

    @property
    def rate(self) -> float:
        """Frames a second of its videos."""
        return float(probe(self.folder / VIDEO).rate)

    def output(self) -> Array:
        """What was made, uint8 [T, H, W, 3], as the mp4 has it."""
        return video_frames(self.folder / VIDEO)

    def control(self) -> Array | None:
        """What VACE was shown, uint8 [T, H, W, 3]; None for nothing."""
        return video_frames(self.folder / CONTROL) if (self.folder / CONTROL).is_file() else None

    def mask(self) -> Array | None:
        """Where it was to be made anew, bool [T, H, W]; None for everywhere."""
        return video_frames(self.folder / MASK)[..., 0] > 127 if (self.folder / MASK).is_file() else None


def run_folders(given: Sequence[Path]) -> list[Path]:
    """Folders of finished runs: those that are given, and those inside a given one, each once.

    Raises:
        InputError: a folder that is no run and holds none.
    """
    found: list[Path] = []
    for folder in given:
        inside = [folder] if (folder / RECORD).is_file() else sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
        if not inside:
            raise InputError(f"{str(folder)!r} is neither the folder of a finished run nor of a sweep")
        found += [run for run in inside if run.resolve() not in {other.resolve() for other in found}]
    return found


def read_run(folder: Path) -> FinishedRun:
    """Read a run folder.

    Raises:
        InputError: something is missing from it or damaged.
    """
    record = read_record(folder)
    try:
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{folder} cannot be read: {' '.join(str(error).split())}") from None
    settings, missing = None, ""
    try:
        settings = settings_of_run(folder, record)
    except VaceAdaptError as error:
        missing = str(error)
    return FinishedRun(folder, record, config, metrics, settings, missing)


def video_frames(path: Path) -> Array:
    """All frames of a video, uint8 [T, H, W, 3]."""
    info = probe(path)
    return np.stack(list(read_frames(info, info.height, info.width)))
