"""The files of a run while it goes on.

``output.mp4``, ``sheet.png``, ``metrics.json`` (time and memory), ``config.yaml``, ``run.json`` (what it depended on)
and, where VACE was shown something, ``control.mp4`` and ``mask.mp4``. A run that is interrupted keeps the chunks it
made; a run that fails leaves nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from vace_adapt.config.settings import RunSettings
from vace_adapt.contract import ChunkReport
from vace_adapt.errors import VideoError
from vace_adapt.experiments.interrupt import undisturbed
from vace_adapt.experiments.metrics import Runner, summary
from vace_adapt.experiments.record import RECORD, Record
from vace_adapt.experiments.source import Source
from vace_adapt.experiments.trackers import EVENTS, Trackers
from vace_adapt.streaming.chunk import StreamedChunk
from vace_adapt.video.sheet import ContactSheet
from vace_adapt.video.write import VideoWriter

VIDEO, SHEET, METRICS, CONFIG = "output.mp4", "sheet.png", "metrics.json", "config.yaml"

CONTROL, MASK = "control.mp4", "mask.mp4"

FILES = (VIDEO, SHEET, METRICS, CONFIG, RECORD, CONTROL, MASK)
"""What a run folder may hold."""

NOTHING_SHOWN = {CONTROL: 128, MASK: 255}
"""Level of the frames for which VACE was shown nothing: mid-gray, all of it to be generated."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RunResult:
    """Where a run's files are, and whether it was interrupted."""

    folder: Path
    video: Path
    sheet: Path
    metrics: Path
    frames: int
    interrupted: bool


class Output:
    """The files of one run.

    Args:
        folder: claimed for it.
        settings: of the run.
        source: its inputs.
        runner: what it runs on.
        record: what it depends on; the chunks made are added to it.
        progress: show a bar.

    Attributes:
        result: once it is finished; None if nothing was made.
    """

    def __init__(
        self, folder: Path, settings: RunSettings, source: Source, runner: Runner, record: Record, progress: bool
    ) -> None:
        self.folder = folder
        self.result: RunResult | None = None
        self._settings = settings
        self._source = source
        self._runner = runner
        self._record = record
        self._reports: list[ChunkReport] = []
        self._digests: list[str] = []
        self._sheet = ContactSheet(("control", "mask", "output"))
        self._writers: dict[str, VideoWriter] = {}
        self._trackers = Trackers(settings.output.trackers, folder, settings)
        self._bar = tqdm(total=source.frames, unit="frame", disable=not progress, dynamic_ncols=True)

    def add(self, chunk: StreamedChunk) -> None:
        """Take a finished chunk into all files or none."""
        with undisturbed(), self._written():
            self._add(chunk)

    def finish(self, *, interrupted: bool) -> None:
        """Give every file its name, the video last."""
        with undisturbed(), self._written():
            self._bar.close()
            if self._reports:
                self._finish(interrupted)
            else:
                self._trackers.discard()

    def discard(self) -> None:
        """Leave nothing."""
        self._bar.close()
        for writer in self._writers.values():
            writer.discard()
        self._trackers.discard()
        clear(self.folder)

    def _add(self, chunk: StreamedChunk) -> None:
        frames = chunk.frames[0].numpy()
        control = None if chunk.control is None else chunk.control[0].numpy()
        mask = None if chunk.mask is None else np.repeat(chunk.mask[0].numpy()[..., None], 3, axis=-1)
        start = sum(report.pixels for report in self._reports)
        for i, frame in enumerate(frames):
            shown = (video if video is None else video[i] for video in (control, mask))
            self._sheet.add(start + i, (*shown, frame))
        self._write(VIDEO, frames, start)
        for name, video in ((CONTROL, control), (MASK, mask)):
            if video is not None or name in self._writers:
                self._write(name, np.full_like(frames, NOTHING_SHOWN[name]) if video is None else video, start)
        self._reports.append(chunk.report)
        self._digests.append(hashlib.sha256(frames.tobytes()).hexdigest())
        self._bar.set_postfix_str(f"chunk {chunk.report.seconds:.2f} s, {chunk.report.fps:.1f} fps", refresh=False)
        self._bar.update(len(frames))
        self._trackers.chunk(chunk.report)

    def _write(self, name: str, frames: Array, start: int) -> None:
        """Add frames to a video; one that begins now has nothing before them."""
        source, quality = self._source, self._settings.output.quality
        if name not in self._writers:
            writer = VideoWriter(self.folder / name, source.height, source.width, source.rate, quality)
            self._writers[name] = writer
            for _ in range(start):
                writer.write(np.full((1, *frames.shape[1:]), NOTHING_SHOWN[name], np.uint8))
        self._writers[name].write(frames)

    def _finish(self, interrupted: bool) -> None:
        measured = summary(self._settings, self._runner, self._reports, interrupted=interrupted)
        record = self._record.model_copy(update={"chunks": tuple(self._digests), "interrupted": interrupted})
        self._sheet.save(self.folder / SHEET)
        save_text(self.folder / METRICS, json.dumps(measured, indent=2) + "\n")
        save_text(self.folder / CONFIG, yaml.safe_dump(self._settings.model_dump(mode="json"), sort_keys=False))
        save_text(self.folder / RECORD, record.model_dump_json(indent=2) + "\n")
        for name in reversed(list(self._writers)):
            self._writers[name].close()
        files = self.folder / VIDEO, self.folder / SHEET, self.folder / METRICS
        self.result = RunResult(self.folder, *files, measured["frames"], interrupted)
        self._trackers.finish(measured, list(files), interrupted=interrupted)

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise VideoError(f"{self.folder} cannot be written: {error.strerror}") from error


@contextmanager
def output(
    folder: Path, settings: RunSettings, source: Source, runner: Runner, record: Record, progress: bool
) -> Iterator[Output]:
    """An output that is finished at the end or on Ctrl-C, and discarded on an error."""
    made = Output(folder, settings, source, runner, record, progress)
    try:
        try:
            yield made
        except KeyboardInterrupt:
            made.finish(interrupted=True)
        else:
            made.finish(interrupted=False)
    except KeyboardInterrupt:
        return  # pressed while the files got their names: they have them
    except BaseException:
        made.discard()
        raise


def clear(folder: Path) -> None:
    """Take a run's files out of a folder, whole or not; leave everything else."""
    for name in FILES:
        for path in (folder / name, folder / f"{name}.partial"):
            path.unlink(missing_ok=True)
    shutil.rmtree(folder / EVENTS, ignore_errors=True)


def save_text(path: Path, text: str) -> None:
    """Write a file under its own name only once it is whole."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
