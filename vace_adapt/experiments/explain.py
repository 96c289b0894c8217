"""What the inputs of a run amount to, found without its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vace_adapt.composition.anchors import first_frame
from vace_adapt.composition.describe import Description, Facts, describe
from vace_adapt.composition.refuse import check_given, check_options, ready_made, videos_read
from vace_adapt.conditioning.references import Reference, references_to_tensor
from vace_adapt.config.settings import RunSettings
from vace_adapt.controls import Reanchor
from vace_adapt.errors import InputError
from vace_adapt.experiments.source import Source
from vace_adapt.facade import PipelineHooks
from vace_adapt.images import is_image
from vace_adapt.streaming.reanchoring import check_memory
from vace_adapt.time_map import TimeMap
from vace_adapt.video.read import frames_at, probe


def explain(settings: RunSettings, source: Source, hooks: PipelineHooks) -> Description:
    """Describe a run. Chunk sizes are those of the plugin's tiny pipeline under the same settings.

    Args:
        settings: validated.
        source: its inputs.
        hooks: the plugin.

    Raises:
        VideoError: a keyframe cannot be read.
        VaceAdaptError: what a run would refuse before it makes anything.
    """
    parts = hooks.tiny_pipeline(settings.pipeline, settings.seed)
    shapes = hooks.chunk_shapes(parts, source.height, source.width)
    time = shapes.time
    mask = source.mask is not None
    check_options(settings.controls, parts.steps)
    anchors = tuple(sorted(set(_anchors(settings, source))))
    if settings.controls.reanchor is not None:
        hooks.require("reanchor", parts.layout)
        check_memory(hooks.cache_ops(parts, shapes, 1).layout)
        _check_keyframes(settings.controls.reanchor, time, source.frames, anchors)
    if settings.references:
        given = [Reference(**reference.model_dump()) for reference in settings.references]
        size = 1, source.height, source.width
        references_to_tensor(given, settings.controls.reference_fit, *size, settings.controls.reference_background)
    if source.videos:
        starts = parts.starts_from_video and not ready_made(settings.controls)
        check_given(settings.controls, videos_read(settings.controls), source.videos, mask=mask, starts=starts)
    return describe(
        Facts(
            settings=settings.controls,
            scale=settings.controls.scale,
            time=time,
            frames=source.frames,
            videos=frozenset(source.videos),
            mask=mask,
            references=tuple((reference.role, reference.scale) for reference in settings.references),
            anchors=anchors,
        )
    )


def _check_keyframes(reanchor: Reanchor, time: TimeMap, frames: int, anchors: Sequence[int]) -> None:
    """Refuse a run that could be re-anchored on a keyframe before it has reached the first one.

    Raises:
        InputError: with both frames.
    """
    chunk = reanchor.earliest
    last = time.pixel_start(chunk + 1) - 1
    if reanchor.source == "keyframe" and time.pixel_start(chunk) < frames and anchors[0] > last:
        raise InputError(
            f"controls.reanchor can come due at chunk {chunk}, which ends with frame {last}, and the first keyframe "
            f"stands at frame {anchors[0]}: place one up to there"
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
        first = first_frame(count, frame, end, source.frames)
        frames += range(first, first + count)
    return frames


def _count(path: Path, source: Source) -> int:
    return 1 if is_image(path) else frames_at(probe(path), source.fps)
