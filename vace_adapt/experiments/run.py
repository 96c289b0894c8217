"""One run: inputs through a pipeline into a run folder.

The folder holds ``output.mp4``, ``sheet.png``, ``metrics.json`` and ``config.yaml``. A run that is interrupted keeps
the chunks it made; a run that fails leaves nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vace_adapt.composing import MAIN
from vace_adapt.conditioning.references import Reference
from vace_adapt.config.settings import ReferenceSettings, RunSettings, Switch
from vace_adapt.errors import InputError, VideoError
from vace_adapt.experiments.folder import claimed
from vace_adapt.experiments.interrupt import undisturbed
from vace_adapt.experiments.metrics import Metrics
from vace_adapt.experiments.source import Moment, Source
from vace_adapt.streaming.chunk import StreamedChunk
from vace_adapt.streaming.load import load_pipeline
from vace_adapt.streaming.pipeline import Pipeline
from vace_adapt.streaming.session import Session
from vace_adapt.video.sheet import ContactSheet
from vace_adapt.video.write import VideoWriter

VIDEO, SHEET, METRICS, CONFIG = "output.mp4", "sheet.png", "metrics.json", "config.yaml"

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


def run(settings: RunSettings, source: Source, *, progress: bool = True) -> RunResult | None:
    """Do what the settings say.

    Args:
        settings: validated.
        source: the inputs, from `open_source`.
        progress: show a bar.

    Returns:
        The files; None if it was interrupted before the first chunk.

    Raises:
        VaceAdaptError: anything the settings or the inputs have wrong, or a full disk. Nothing is left then.
    """
    with claimed(settings.output.folder, f"{settings.pipeline.name}-{settings.task.name}") as folder:
        return _run(folder, settings, source, progress)


def _run(folder: Path, settings: RunSettings, source: Source, progress: bool) -> RunResult | None:
    pipeline = load_pipeline(
        settings.pipeline.name,
        weights=settings.weights,
        settings=settings.pipeline,
        device=settings.device,
        dtype=settings.dtype,
    )
    if settings.compile:
        pipeline.compile()
    with (
        pipeline.stream(
            settings.prompt,
            height=source.height,
            width=source.width,
            seed=settings.seed,
            references=[_reference(reference) for reference in settings.references],
            num_frames=source.frames,
            controls=settings.controls,
        ) as session,
        _output(folder, settings, source, pipeline, progress) as output,
    ):
        _check_switches(session, settings, source)
        _place_keyframes(session, settings, source)
        _stream(session, settings, source, output)
    return output.result


def _reference(settings: ReferenceSettings) -> Reference:
    return Reference(**settings.model_dump())


def _place_keyframes(session: Session, settings: RunSettings, source: Source) -> None:
    """The keyframes of a run, those at its two ends first, so that others may lie over them."""
    if settings.first is not None:
        session.keyframe(source.pictures(settings.first), frame=0)
    if settings.last is not None:
        session.keyframe(source.pictures(settings.last), end=-1)
    for keyframe in settings.keyframes:
        session.keyframe(source.pictures(keyframe.path), frame=keyframe.frame, end=keyframe.end)


def _check_switches(session: Session, settings: RunSettings, source: Source) -> None:
    last = session.shapes.time.chunk_of(source.frames - 1)
    for switch in settings.switches:
        if switch.chunk > last:
            raise InputError(f"switches: there is no chunk {switch.chunk}, {source.frames} frames end with {last}")


def _stream(session: Session, settings: RunSettings, source: Source, output: Output) -> None:
    """Feed every chunk what it needs, and take what it makes.

    Where chunks are made together, those behind are fed early, but none at which something changes.
    """
    moments = source.moments()
    switches = {switch.chunk: switch for switch in settings.switches}
    at_once, fed = session.engine.parts.chunks_at_once, 0
    for index in itertools.count():
        if index in switches:
            _switch(session, switches[index])
        while fed <= index or (fed < index + at_once and fed not in switches):
            needed = session.shapes.time.pixels(fed)
            given = list(itertools.islice(moments, needed))
            if given:
                _feed(session, given, last=len(given) < needed)
            fed += 1
        chunk = next(session, None)
        if chunk is None:
            return
        output.add(chunk)


def _switch(session: Session, switch: Switch) -> None:
    given = switch.references
    session.update(
        prompt=switch.prompt,
        references=None if given is None else [_reference(reference) for reference in given],
        scale=switch.scale,
        controls=switch.controls,
    )


def _feed(session: Session, fed: list[Moment], *, last: bool) -> None:
    videos = {name: np.stack([moment.videos[name] for moment in fed]) for name in fed[0].videos}
    masks = [moment.mask for moment in fed if moment.mask is not None]
    session.feed(videos.pop(MAIN), np.stack(masks) if masks else None, videos=videos, last=last)


class Output:
    """The files of a run while it goes on."""

    def __init__(self, folder: Path, settings: RunSettings, source: Source, pipeline: Pipeline, progress: bool) -> None:
        self.folder = folder
        self.result: RunResult | None = None
        self._settings = settings
        self._source = source
        self._metrics = Metrics(settings, pipeline)
        self._sheet = ContactSheet(("control", "mask", "output"))
        self._writer: VideoWriter | None = None
        self._bar = tqdm(total=source.frames, unit="frame", disable=not progress, dynamic_ncols=True)

    def add(self, chunk: StreamedChunk) -> None:
        """Take a finished chunk into all files or none."""
        with undisturbed(), self._written():
            self._add(chunk)

    def finish(self, *, interrupted: bool) -> None:
        """Give every file its name, the video last."""
        with undisturbed(), self._written():
            self._bar.close()
            if self._writer is not None:
                self._finish(self._writer, interrupted)

    def discard(self) -> None:
        """Leave nothing."""
        self._bar.close()
        if self._writer is not None:
            self._writer.discard()
        for name in (VIDEO, SHEET, METRICS, CONFIG):
            for path in self.folder.glob(f"{name}*"):
                path.unlink()

    def _add(self, chunk: StreamedChunk) -> None:
        writer = self._open()
        frames = chunk.frames[0].numpy()
        for i, frame in enumerate(frames):
            control = None if chunk.control is None else chunk.control[0, i].numpy()
            mask = None if chunk.mask is None else np.repeat(chunk.mask[0, i].numpy()[..., None], 3, axis=-1)
            self._sheet.add(writer.frames + i, (control, mask, frame))
        writer.write(frames)
        self._metrics.add(chunk.report)
        self._bar.set_postfix_str(f"chunk {chunk.report.seconds:.2f} s, {chunk.report.fps:.1f} fps", refresh=False)
        self._bar.update(len(frames))

    def _finish(self, writer: VideoWriter, interrupted: bool) -> None:
        sheet, metrics = self.folder / SHEET, self.folder / METRICS
        self._sheet.save(sheet)
        self._metrics.save(metrics, interrupted=interrupted)
        self._metrics.save_config(self.folder / CONFIG)
        writer.close()
        self.result = RunResult(self.folder, writer.path, sheet, metrics, writer.frames, interrupted)

    def _open(self) -> VideoWriter:
        if self._writer is None:
            source, quality = self._source, self._settings.output.quality
            self._writer = VideoWriter(self.folder / VIDEO, source.height, source.width, source.rate, quality)
        return self._writer

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise VideoError(f"{self.folder} cannot be written: {error.strerror}") from error


@contextmanager
def _output(
    folder: Path, settings: RunSettings, source: Source, pipeline: Pipeline, progress: bool
) -> Iterator[Output]:
    """An output that is finished at the end or on Ctrl-C, and discarded on an error."""
    output = Output(folder, settings, source, pipeline, progress)
    try:
        try:
            yield output
        except KeyboardInterrupt:
            output.finish(interrupted=True)
        else:
            output.finish(interrupted=False)
    except KeyboardInterrupt:
        return  # pressed while the files got their names: they have them
    except BaseException:
        output.discard()
        raise
