"""The inputs of a run, read chunk by chunk: sizes first, frames when they are needed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vace_adapt.composing import MAIN
from vace_adapt.composition.canvas import best_canvas, place_in
from vace_adapt.config.settings import RunSettings
from vace_adapt.contract import PipelineInfo
from vace_adapt.embedded.family import FAMILY_SIZE
from vace_adapt.errors import InputError, VideoError
from vace_adapt.images import is_image
from vace_adapt.video.read import VideoInfo, frames_at, image_size, probe, read_frames, read_image

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Moment:
    """What is given for one frame: uint8 pictures [h, w, 3] by video name, and a mask [h, w] or None."""

    videos: dict[str, Array]
    mask: Array | None


@dataclass(frozen=True)
class Source:
    """What a run makes, and from what.

    Attributes:
        height, width: of every frame made.
        size: height and width at which inputs are read; smaller where room is made around them.
        frames: pixel frames to make.
        rate: frames a second of the output.
        fps: rate at which videos are read; None reads every frame.
        videos: the inputs by name, all of the same length; empty for none.
        mask: a mask video, frame for frame the input's and so taken at its rate; a mask image; or None.
    """

    height: int
    width: int
    size: tuple[int, int]
    frames: int
    rate: Fraction
    fps: float | None
    videos: dict[str, VideoInfo]
    mask: VideoInfo | Path | None

    def moments(self) -> Iterator[Moment]:
        """What is given, one for each frame to make; nothing at all where there is no video.

        Raises:
            VideoError: a file is damaged: fewer frames can be decoded than it holds.
        """
        if not self.videos:
            return
        readers = [read_frames(info, *self.size, self.fps) for info in self.videos.values()]
        made = 0
        for *frames, mask in itertools.islice(zip(*readers, self._masks(), strict=False), self.frames):
            yield Moment(dict(zip(self.videos, frames, strict=True)), mask)
            made += 1
        if made < self.frames:
            infos = [*self.videos.values(), *([self.mask] if isinstance(self.mask, VideoInfo) else [])]
            names = " or ".join(str(info.path) for info in infos)
            raise VideoError(f"{names} is damaged: {made} of {self.frames} frames can be decoded")

    def pictures(self, path: Path) -> Array:
        """A keyframe or a clip as it is placed: uint8 [T, h, w, 3].

        Raises:
            VideoError, InputError: it cannot be read.
        """
        if is_image(path):
            from vace_adapt.conditioning.pixels import tensor_to_frames  # torch: sizes are looked at without it
            from vace_adapt.conditioning.references import references_to_tensor

            return tensor_to_frames(references_to_tensor([path], "crop", 1, *self.size, name="keyframe"))[0].numpy()
        return np.stack(list(read_frames(probe(path), *self.size, self.fps)))

    def _masks(self) -> Iterator[Array | None]:
        if self.mask is None:
            return itertools.repeat(None)
        if isinstance(self.mask, Path):
            return itertools.repeat(read_image(self.mask, *self.size, "mask", gray=True))
        masks = read_frames(self.mask, *self.size, self.fps, gray=True)
        return (np.where(mask > 1, mask, 0).astype(np.uint8) for mask in masks)  # 1 in black is the codec's noise


def open_source(settings: RunSettings, info: PipelineInfo) -> Source:
    """Look at the inputs and decide sizes; decodes no frame but the first.

    Args:
        settings: validated.
        info: of the pipeline: which size and rate it is for.

    Raises:
        VideoError: a video cannot be read.
        InputError: a mask or a further video of another size or length, more frames than the input has, or a size that
            does not divide.
    """
    video = None if settings.input is None else probe(settings.input)
    videos = {} if video is None else {MAIN: video, **_further(settings.videos, video)}
    mask = None if settings.mask is None or video is None else _mask(settings.mask, video)
    height, width = _size(settings, info, _shown(settings, video))
    size = height, width
    if settings.controls.outpaint is not None:
        placement = place_in(height, width, settings.controls.outpaint)
        size = placement.source_height, placement.source_width
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
    return Source(height, width, size, frames, rate, settings.fps, videos, mask)


def _further(paths: dict[str, Path], video: VideoInfo) -> dict[str, VideoInfo]:
    """Videos that go along with the input."""
    return {name: _along(probe(path), video, f"video {name!r}") for name, path in paths.items()}


def _mask(path: Path, video: VideoInfo) -> VideoInfo | Path:
    if not is_image(path):
        return _along(probe(path), video, "mask")
    _check_size(image_size(path, "mask"), video, "mask")
    return path


def _along(info: VideoInfo, video: VideoInfo, name: str) -> VideoInfo:
    """A video that goes along with the input, frame for frame."""
    if info.frames != video.frames:
        raise InputError(f"{name} has {info.frames} frames, the input has {video.frames}")
    _check_size((info.height, info.width), video, name)
    return replace(info, rate=video.rate)


def _check_size(size: tuple[int, int], video: VideoInfo, name: str) -> None:
    height, width = size
    if size != (video.height, video.width):
        raise InputError(f"{name} is {height}x{width} (height x width), the input is {video.height}x{video.width}")


def _shown(settings: RunSettings, video: VideoInfo | None) -> tuple[int, int] | None:
    """Height and width of the input, or of what the video begins or ends with; None without any."""
    if video is not None:
        return video.height, video.width
    anchors = [settings.first, settings.last, *(keyframe.path for keyframe in settings.keyframes)]
    path = next((path for path in anchors if path is not None), None)
    if path is None:
        return None
    if is_image(path):
        return image_size(path, str(path))
    clip = probe(path)
    return clip.height, clip.width


def _size(settings: RunSettings, info: PipelineInfo, shown: tuple[int, int] | None) -> tuple[int, int]:
    """What was asked for; else the aspect of what is shown, with room around it, in the pipeline's area and in whole
    tokens.
    """
    if settings.height is not None and settings.width is not None:
        return settings.height, settings.width
    native = info.video
    usual = (FAMILY_SIZE, FAMILY_SIZE) if settings.weights.embedded else (native.height, native.width)
    area = settings.area or math.prod(usual)
    height, width = shown or usual
    unit = next(iter(info.backbones.values())).unit
    if settings.controls.outpaint is not None and shown is not None:
        return best_canvas(height, width, settings.controls.outpaint, area, math.lcm(*unit))
    shrink = min(1.0, (area / (height * width)) ** 0.5)
    return _whole(height * shrink, unit[0]), _whole(width * shrink, unit[1])


def _whole(side: float, unit: int) -> int:
    return max(unit, int(side) // unit * unit)
