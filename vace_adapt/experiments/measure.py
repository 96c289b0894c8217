"""Every measure of a finished run: one value for the run, and one for each chunk where that means something."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vace_adapt.annotators.boxes import box_at
from vace_adapt.boxes import to_pixels
from vace_adapt.composing import MAIN
from vace_adapt.composition.refuse import Chosen, of_structure, ready_made
from vace_adapt.config.settings import RunSettings
from vace_adapt.contract import Canvas
from vace_adapt.errors import CheckpointError, InputError, VaceAdaptError
from vace_adapt.experiments.finished import FinishedRun
from vace_adapt.experiments.rerun import started_in
from vace_adapt.experiments.start import sourced
from vace_adapt.metrics import appearance, control, motion, preservation, timing
from vace_adapt.video.read import image_size, read_image

Array = np.ndarray[Any, Any]

LINES = ("canny", "softedge", "scribble")
"""Annotators whose pictures are lines."""


@dataclass
class Measures:
    """What was measured.

    Attributes:
        values: of the whole run, by name (`vace_adapt.metrics.named`); what cannot be measured is not in it.
        chunks: by name, one for each chunk; NaN where it means nothing.
        notes: what was not measured, and why.
    """

    values: dict[str, float] = field(default_factory=dict)
    chunks: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take(self, name: str, value: float, chunks: Sequence[float] | None = None) -> None:
        """Note a value that is one."""
        if not math.isnan(value):
            self.values[name] = value
            if chunks is not None:
                self.chunks[name] = list(chunks)


def measure(run: FinishedRun, features: appearance.Features | None = None) -> Measures:
    """Measure a run from its folder; inputs are read where they are still there.

    Args:
        run: what to measure.
        features: of `vace_adapt.metrics.features.load_features`, for ``reference_similarity``.
    """
    made = Measures()
    frames = run.output()
    parts = _parts(run.pixels)
    _time(made, run.metrics["chunks"])
    _looks(made, frames, parts, run.pixels)
    shown, mask = run.control(), run.mask()
    if shown is not None:
        _keeping(made, frames, shown, mask, parts)
    if run.settings is None:
        made.notes.append(f"its inputs cannot be read any more: {run.missing}")
        return made
    with started_in(run.record.folder):
        _references(made, run.settings, frames, mask, features)
        if shown is not None:
            _control(made, run.settings, frames, shown, mask, parts)
    return made


def _time(made: Measures, chunks: Sequence[Mapping[str, Any]]) -> None:
    made.take("first_frame_latency", timing.first_frame_latency(chunks))
    made.take("chunk_latency", timing.chunk_latency(chunks), [chunk["seconds"] for chunk in chunks])
    made.take("chunk_latency_p95", timing.chunk_latency_p95(chunks))
    made.take("fps", timing.frames_per_second(chunks))
    made.take("peak_memory", timing.peak_memory(chunks))
    made.take("cache_memory", timing.cache_memory(chunks), [chunk["cache_bytes"] / 2**20 for chunk in chunks])


def _looks(made: Measures, frames: Array, parts: Sequence[slice], pixels: Sequence[int]) -> None:
    first = frames[parts[0]]
    sharp = [appearance.sharpness(frames[part]) for part in parts]
    made.take("sharpness", appearance.sharpness(frames), sharp)
    made.take("warp_error", motion.warp_error(frames), [motion.warp_error(frames[part]) for part in parts])
    if len(parts) > 1:
        colours = [appearance.colour_drift(frames[part], first) for part in parts]
        made.take("colour_drift", colours[-1], colours)
        contrasts = [appearance.contrast_drift(frames[part], first) for part in parts]
        made.take("contrast_drift", contrasts[-1], contrasts)
        jumps = motion.boundary_jumps(frames, pixels)
        finite = [jump for jump in jumps if not math.isnan(jump)]
        made.take("boundary_jump", float(np.mean(finite)) if finite else math.nan, [math.nan, *jumps])


def _keeping(made: Measures, frames: Array, shown: Array, mask: Array | None, parts: Sequence[slice]) -> None:
    """What the mask keeps of what VACE was shown."""
    if mask is None or mask.all():
        return
    chunks = [preservation.psnr(frames[part], shown[part], ~mask[part]) for part in parts]
    made.take("psnr", preservation.psnr(frames, shown, ~mask), chunks)
    try:
        made.take("ssim", preservation.ssim(frames, shown, ~mask))
    except InputError as error:
        made.notes.append(str(error))


def _references(
    made: Measures, settings: RunSettings, frames: Array, mask: Array | None, features: appearance.Features | None
) -> None:
    """Colours of the references together, where the video was made anew, and how alike a network finds them."""
    pictures = []
    for reference in settings.references:
        height, width = image_size(reference.image, "reference")
        pictures.append(read_image(reference.image, height, width, "reference"))
    if pictures:
        pixels = np.concatenate([picture.reshape(1, -1, 3) for picture in pictures], axis=1)
        made.take("colour_similarity", appearance.colour_similarity(frames, pixels, mask))
    if pictures and features is not None:
        made.take("reference_similarity", appearance.reference_similarity(features, frames, pictures))


def _control(
    made: Measures, settings: RunSettings, frames: Array, shown: Array, mask: Array | None, parts: Sequence[slice]
) -> None:
    """The control, extracted again, against what VACE was shown where it was to generate."""
    structures = settings.controls.structure
    own = of_structure(settings.controls, structures[0]) if len(structures) == 1 else None
    name = None if own is None else own.info.name

    def part_by_part(score: Callable[..., float], one: Array, other: Array) -> tuple[float, list[float]]:
        where = [None if mask is None else mask[part] for part in parts]
        chunks = [score(one[part], other[part], at) for part, at in zip(parts, where, strict=True)]
        return score(one, other, mask), chunks

    if structures and name == "gray":
        made.take("gray_correlation", *part_by_part(control.gray_correlation, frames, shown))
    elif own is not None and name == "depth":
        try:
            again = own.info.make(own.settings, Canvas(*frames.shape[1:3]))(frames, 0)
        except CheckpointError as error:
            made.notes.append(str(error))
        else:
            made.take("depth_correlation", *part_by_part(control.gray_correlation, again, shown))
    elif structures and name == "flow":
        source = _main(settings, frames)
        if source is not None:
            made.take("flow_error", *part_by_part(control.flow_error, frames, source))
    elif own is not None and name == "layout":
        made.take("layout_iou", _layout(own, frames))
    elif structures:
        again = _lines(own, frames) if own is not None and name in LINES else control.outlines(frames)
        wanted = _line_map(shown) if name in LINES else control.outlines(shown)
        made.take("edge_f1", *part_by_part(control.edge_f1, again, wanted))
    if mask is not None and not ready_made(settings.controls):
        source = _main(settings, frames)
        if source is not None and not mask.all():
            changes = control.changed(frames, source)
            chunks = [control.mask_iou(changes[part], mask[part]) for part in parts]
            made.take("changed_iou", control.mask_iou(changes, mask), chunks)


def _lines(own: Chosen, frames: Array) -> Array:
    return _line_map(own.info.make(own.settings, Canvas(frames.shape[1], frames.shape[2]))(frames, 0))


def _line_map(pictures: Array) -> Array:
    """Where the lines are, bool [T, H, W]: the rarer of dark and bright."""
    bright = pictures[..., 0] > 127
    return bright if bright.mean() <= 0.5 else ~bright


def _layout(own: Chosen, frames: Array) -> float:
    """Mean over the objects of a layout of how far what stands in each one's first box follows its path."""
    settings: Any = own.settings
    scores = []
    for moving in settings.objects:
        wanted = np.array([to_pixels(box_at(moving.path, i), *frames.shape[1:3]) for i in range(len(frames))], float)
        try:
            scores.append(control.box_iou(control.tracked_boxes(frames, box_at(moving.path, 0)), wanted))
        except VaceAdaptError:  # too thin a box to be followed
            continue
    return float(np.mean(scores)) if scores else math.nan


def _main(settings: RunSettings, frames: Array) -> Array | None:
    """The input as the run read it, where it fills the frame."""
    source = sourced(settings)
    if not source.videos or source.size != frames.shape[1:3]:
        return None
    moments = [moment.videos[MAIN] for moment in source.moments()]
    return np.stack(moments)[: len(frames)] if len(moments) >= len(frames) else None


def _parts(pixels: Sequence[int]) -> list[slice]:
    ends = np.cumsum(pixels).tolist()
    return [slice(end - count, end) for end, count in zip(ends, pixels, strict=True)]
