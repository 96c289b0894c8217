"""The inputs of a run, read chunk by chunk: sizes first, frames when they are needed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vace_adapt.config.settings import RunSettings
from vace_adapt.contract import PipelineInfo
from vace_adapt.errors import InputError, VideoError
from vace_adapt.images import is_image
from vace_adapt.video.read import VideoInfo, frames_at, image_size, probe, read_frames, read_image

Array = np.ndarray[Any, Any]

EMBEDDED_AREA = 96 * 160


@dataclass(frozen=True)
class Source:
    """What a run makes, and from what.

    Attributes:
        height, width: of every frame.
        frames: pixel frames to make.
        rate: frames a second of the output.
        video: the input, or None.
        mask: a mask video, frame for frame the input's and so taken at its rate; a mask image; or None.
    """

    height: int
    width: int
    frames: int
    rate: Fraction
    fps: float | None
    video: VideoInfo | None
    mask: VideoInfo | Path | None

    def control(self) -> Iterator[tuple[Array, Array | None]]:
        """Frame [H, W, 3] and mask [H, W] (or None), uint8, one pair for each frame to make.

        Raises:
            VideoError: a file is damaged: fewer frames can be decoded than it holds.
        """
        if self.video is None:
            return
        frames = read_frames(self.video, self.height, self.width, self.fps)
        made = 0
        for pair in itertools.islice(zip(frames, self._masks(), strict=False), self.frames):
            yield pair
            made += 1
        if made < self.frames:
            names = " or ".join(str(info.path) for info in (self.video, self.mask) if isinstance(info, VideoInfo))
            raise VideoError(f"{names} is damaged: {made} of {self.frames} frames can be decoded")

    def _masks(self) -> Iterator[Array | None]:
        if self.mask is None:
            return itertools.repeat(None)
        if isinstance(self.mask, Path):
            return itertools.repeat(read_image(self.mask, self.height, self.width, "mask", gray=True))
        masks = read_frames(self.mask, self.height, self.width, self.fps, gray=True)
        return (np.where(mask > 1, mask, 0).astype(np.uint8) for mask in masks)  # 1 in black is the codec's noise


def open_source(settings: RunSettings, info: PipelineInfo) -> Source:
    """Look at the inputs and decide sizes; decodes no frame but the first.

    Args:
        settings: validated.
        info: of the pipeline: which size and rate it is for.

    Raises:
        VideoError: the input or the mask cannot be read.
        InputError: a mask of another size or length, more frames than the input has, or a size that does not divide.
    """
    video = None if settings.input is None else probe(settings.input)
    mask = None if settings.mask is None or video is None else _mask(settings.mask, video)
    height, width = _size(settings, info, video)
    frames = settings.frames
    if video is not None:
        there = frames_at(video, settings.fps)
        if frames is not None and frames > there:
            raise InputError(f"frames={frames}, but the input has {there}")
        frames = frames or there
    assert frames is not None
    rate = Fraction(info.video.rate) if video is None else video.rate
    if settings.fps is not None:
        rate = Fraction(settings.fps).limit_denominator(1_000_000)
    return Source(height, width, frames, rate, settings.fps, video, mask)


def _mask(path: Path, video: VideoInfo) -> VideoInfo | Path:
    if is_image(path):
        height, width = image_size(path, "mask")
        mask: VideoInfo | Path = path
    else:
        mask = probe(path)
        height, width = mask.height, mask.width
        if mask.frames != video.frames:
            raise InputError(f"mask has {mask.frames} frames, the input has {video.frames}")
        mask = replace(mask, rate=video.rate)
    if (height, width) != (video.height, video.width):
        raise InputError(f"mask is {height}x{width} (height x width), the input is {video.height}x{video.width}")
    return mask


def _size(settings: RunSettings, info: PipelineInfo, video: VideoInfo | None) -> tuple[int, int]:
    """What was asked for; else the aspect of the input, in the pipeline's area and in whole tokens."""
    if settings.height is not None and settings.width is not None:
        return settings.height, settings.width
    native = info.video
    area = settings.area or (EMBEDDED_AREA if settings.weights.embedded else native.height * native.width)
    height, width = (native.height, native.width) if video is None else (video.height, video.width)
    shrink = min(1.0, (area / (height * width)) ** 0.5)
    unit = next(iter(info.backbones.values())).unit
    return _whole(height * shrink, unit[0]), _whole(width * shrink, unit[1])


def _whole(side: float, unit: int) -> int:
    return max(unit, int(side) // unit * unit)
