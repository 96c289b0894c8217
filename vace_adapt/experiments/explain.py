"""What the inputs of a run amount to, found without its weights."""

from __future__ import annotations

from pathlib import Path

from vace_adapt.composition.describe import Description, Facts, describe
from vace_adapt.config.settings import RunSettings
from vace_adapt.experiments.source import Source
from vace_adapt.facade import PipelineHooks
from vace_adapt.images import is_image
from vace_adapt.video.read import frames_at, probe


def explain(settings: RunSettings, source: Source, hooks: PipelineHooks) -> Description:
    """Describe a run. Chunk sizes are those of the plugin's tiny pipeline under the same settings.

    Args:
        settings: validated.
        source: its inputs.
        hooks: the plugin.

    Raises:
        VideoError: a keyframe cannot be read.
    """
    parts = hooks.tiny_pipeline(settings.pipeline, settings.seed)
    time = hooks.chunk_shapes(parts, source.height, source.width).time
    return describe(
        Facts(
            settings=settings.controls,
            time=time,
            frames=source.frames,
            videos=frozenset(source.videos),
            mask=source.mask is not None,
            references=tuple((r.role, r.scale * settings.controls.scale.references) for r in settings.references),
            anchors=tuple(sorted(set(_anchors(settings, source)))),
        )
    )


def _anchors(settings: RunSettings, source: Source) -> list[int]:
    """The frames on which keyframes stand."""
    placed = [(settings.first, 0, None), (settings.last, None, -1)]
    given = [(path, frame, end) for path, frame, end in placed if path is not None]
    given += [(keyframe.path, keyframe.frame, keyframe.end) for keyframe in settings.keyframes]
    frames: list[int] = []
    for path, frame, end in given:
        assert path is not None
        count = _count(path, source)
        first = frame if frame is not None else _last(end, source) - count + 1
        frames += range(first, first + count)
    return frames


def _count(path: Path, source: Source) -> int:
    return 1 if is_image(path) else frames_at(probe(path), source.fps)


def _last(end: int | None, source: Source) -> int:
    assert end is not None
    return end if end >= 0 else source.frames + end
