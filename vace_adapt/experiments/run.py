"""One run: inputs through a pipeline into a run folder (`vace_adapt.experiments.output`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vace_adapt.composing import MAIN
from vace_adapt.conditioning.references import Reference
from vace_adapt.config.settings import ReferenceSettings, RunSettings, Switch
from vace_adapt.errors import InputError
from vace_adapt.experiments.folder import claimed
from vace_adapt.experiments.metrics import Runner
from vace_adapt.experiments.output import Output, RunResult, output
from vace_adapt.experiments.record import record_of
from vace_adapt.experiments.source import Moment, Source
from vace_adapt.experiments.weights_used import weight_marks
from vace_adapt.streaming.load import load_pipeline
from vace_adapt.streaming.session import Session


def run(
    settings: RunSettings, source: Source, *, progress: bool = True, clear: Callable[[Path], None] | None = None
) -> RunResult | None:
    """Do what the settings say.

    Args:
        settings: validated.
        source: the inputs, from `open_source`.
        progress: show a bar.
        clear: what to do about files that are in the folder already; see `claimed`.

    Returns:
        The files; None if it was interrupted before the first chunk.

    Raises:
        VaceAdaptError: anything the settings or the inputs have wrong, or a full disk. Nothing is left then.
    """
    with claimed(settings.output.folder, f"{settings.pipeline.name}-{settings.task.name}", clear) as folder:
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
    hooks = pipeline.hooks
    record = record_of(settings, hooks.info, hooks.distribution, pipeline.device, weight_marks(settings, hooks))
    runner = Runner(pipeline.parts.trained, str(pipeline.device), str(pipeline.dtype).removeprefix("torch."))
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
        output(folder, settings, source, runner, record, progress) as made,
    ):
        _check_switches(session, settings, source)
        _place_keyframes(session, settings, source)
        _stream(session, settings, source, made)
    return made.result


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


def _stream(session: Session, settings: RunSettings, source: Source, made: Output) -> None:
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
        made.add(chunk)


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
