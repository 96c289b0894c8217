"""Video files in, through PyAV: any container and codec FFmpeg reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image, UnidentifiedImageError

from vace_adapt.errors import VideoError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds.

    Attributes:
        path: the file.
        height, width: pixels, after the rotation the file asks for.
        frames: frames that are really there, counted.
        rate: average frames a second.
    """

    path: Path
    height: int
    width: int
    frames: int
    rate: Fraction


def probe(path: Path) -> VideoInfo:
    """Look through a file without decoding more than its first frame.

    Raises:
        VideoError: missing, not a video, without frames, or truncated (less is there than the container declares).
    """
    try:
        height, width = _first_size(path)
        with av.open(str(path)) as container:
            return _counted(path, container, height, width)
    except FileNotFoundError:
        raise VideoError(f"no video {str(path)!r}") from None
    except EOFError:
        raise VideoError(f"{path} has no frames") from None
    except FFmpegError as error:
        raise VideoError(f"{path} is not a video that can be read, or is truncated: {_reason(error)}") from error


def read_frames(
    info: VideoInfo, height: int, width: int, fps: float | None = None, *, gray: bool = False
) -> Iterator[Array]:
    """Frames one after another, scaled to cover `height` x `width` and cut at the centre.

    Args:
        info: from `probe`.
        height, width: of every frame made.
        fps: resample to this rate, taking the input's frames as evenly spaced: each made frame is the newest one shown
            by then. None gives every frame.
        gray: [H, W] instead of [H, W, 3].

    Yields:
        uint8 frames.

    Raises:
        VideoError: a frame is damaged.
    """
    try:
        with av.open(str(info.path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            shown = (_fill(_upright(frame), height, width, gray=gray) for frame in container.decode(stream))
            yield from (
                shown if fps is None else _resampled(shown, info.rate, Fraction(fps).limit_denominator(1_000_000))
            )
    except FFmpegError as error:
        raise VideoError(f"{info.path} is damaged: {_reason(error)}") from error


def frames_at(info: VideoInfo, fps: float | None) -> int:
    """How many frames `read_frames` makes."""
    if fps is None:
        return info.frames
    rate = Fraction(fps).limit_denominator(1_000_000)
    return max(1, -(-info.frames * rate // info.rate))


def read_image(path: Path, height: int, width: int, *, gray: bool = False) -> Array:
    """A still image, scaled to cover and cut, uint8.

    Raises:
        VideoError: not an image.
    """
    try:
        with Image.open(path) as image:
            return _fill(np.asarray(image.convert("RGB")), height, width, gray=gray)
    except (UnidentifiedImageError, OSError) as error:
        raise VideoError(f"{path} is not an image") from error


def is_image(path: Path) -> bool:
    """Whether a file is a still image, by its content."""
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) == 1
    except (UnidentifiedImageError, OSError):
        return False


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a still image."""
    with Image.open(path) as image:
        return image.height, image.width


def _first_size(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise VideoError(f"{path} has no video stream")
        first = next(container.decode(container.streams.video[0]), None)
        if first is None:
            raise VideoError(f"{path} has no frames")
        height, width = _upright(first).shape[:2]
        return height, width


def _counted(path: Path, container: Any, height: int, width: int) -> VideoInfo:
    """Count the packets; refuse fewer, or an earlier end, than the container declares."""
    stream = container.streams.video[0]
    rate = Fraction(stream.average_rate or 16)
    packets = [packet for packet in container.demux(stream) if packet.size > 0]
    if len(packets) < stream.frames:
        raise VideoError(f"{path} is truncated: {len(packets)} of {stream.frames} frames are there")
    end = max(((p.pts or 0) + (p.duration or 0)) * p.time_base for p in packets)
    declared = _declared_end(container)
    if declared is not None and end + 2 / rate < declared:
        raise VideoError(f"{path} is truncated: {float(end):.2f} of {float(declared):.2f} seconds are there")
    return VideoInfo(path, height, width, sum(not packet.is_discard for packet in packets), rate)


def _declared_end(container: Any) -> Fraction | None:
    """Seconds that a Matroska or WebM file declares for its video; they do not declare a number of frames."""
    if "matroska" not in container.format.name:
        return None
    tag = container.streams.video[0].metadata.get("DURATION")
    if tag is not None:
        hours, minutes, seconds = tag.split(":")
        return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
    if container.duration is None or len(container.streams) > 1:
        return None
    return Fraction(container.duration, av.time_base)


def _resampled(frames: Iterator[Array], source: Fraction, target: Fraction) -> Iterator[Array]:
    made = 0
    for shown, frame in enumerate(frames):
        while Fraction(made) / target < Fraction(shown + 1) / source:
            yield frame
            made += 1


def _upright(frame: av.VideoFrame) -> Array:
    """RGB pixels with the file's rotation applied."""
    return np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4)


def _fill(frame: Array, height: int, width: int, *, gray: bool) -> Array:
    """Scale to cover and cut the centre."""
    scale = max(height / frame.shape[0], width / frame.shape[1])
    size = (max(width, round(frame.shape[1] * scale)), max(height, round(frame.shape[0] * scale)))
    image = Image.fromarray(np.ascontiguousarray(frame))
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    image = image.crop((left, top, left + width, top + height))
    return np.asarray(image.convert("L") if gray else image)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
