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
from PIL import Image

from vace_adapt.errors import VideoError
from vace_adapt.images import load_image

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds.

    Attributes:
        path: the file.
        height, width: pixels as shown: turned as the file asks for, and one side stretched where pixels are not square.
        frames: frames that are really there, counted.
        rate: average frames a second; measured where the file declares another.
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
        size = _first_size(path)
        with _opened(path) as container:
            return _counted(path, container, *size)
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
        with _opened(info.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            size = info.height, info.width
            shown = (_fill(_upright(frame), size, height, width, gray=gray) for frame in container.decode(stream))
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


def read_image(path: Path, height: int, width: int, name: str, *, gray: bool = False) -> Array:
    """A still image, scaled to cover and cut, uint8; transparency is left out.

    Raises:
        InputError: not an image; begins with `name`.
    """
    image = np.asarray(load_image(path, name).convert("RGB"))
    return _fill(image, image.shape[:2], height, width, gray=gray)


def image_size(path: Path, name: str) -> tuple[int, int]:
    """Height and width of a still image that can be read to its end.

    Raises:
        InputError: not an image, or damaged; begins with `name`.
    """
    image = load_image(path, name)
    return image.height, image.width


def _opened(path: Path) -> Any:
    """A container; the path is made absolute, since FFmpeg takes what stands before a colon for a protocol."""
    return av.open(str(path.absolute()))


def _first_size(path: Path) -> tuple[int, int]:
    """Height and width as shown: the longer side of a pixel that is not square stretches its side of the frame."""
    with _opened(path) as container:
        if not container.streams.video:
            raise VideoError(f"{path} has no video stream")
        stream = container.streams.video[0]
        first = next(container.decode(stream), None)
        if first is None:
            raise VideoError(f"{path} has no frames")
        pixel = stream.sample_aspect_ratio or 1
        height, width = round(first.height / min(pixel, 1)), round(first.width * max(pixel, 1))
        return (width, height) if _quarters(first) % 2 else (height, width)


def _counted(path: Path, container: Any, height: int, width: int) -> VideoInfo:
    """Count the packets; refuse fewer whole ones, or an earlier end, than the container declares."""
    stream = container.streams.video[0]
    packets = [packet for packet in container.demux(stream) if packet.size > 0]
    whole, declared = sum(not packet.is_corrupt for packet in packets), max(stream.frames, len(packets))
    if whole < declared:
        raise VideoError(f"{path} is truncated: {whole} of {declared} frames are there")
    shown = [packet for packet in packets if not packet.is_discard]
    rate = _rate(stream, shown)
    end = max(((p.pts or 0) + (p.duration or 0)) * p.time_base for p in packets)
    declared_end = _declared_end(container)
    if declared_end is not None and end + 2 / rate < declared_end:
        raise VideoError(f"{path} is truncated: {float(end):.2f} of {float(declared_end):.2f} seconds are there")
    return VideoInfo(path, height, width, len(shown), rate)


def _rate(stream: Any, packets: list[Any]) -> Fraction:
    """The rate the file declares, or the measured one where that is more than 2 % off."""
    declared = Fraction(stream.average_rate or 16)
    if len(packets) < 2 or any(packet.pts is None for packet in packets):
        return declared
    times = [packet.pts for packet in packets]
    span, last = max(times) - min(times), packets[-1].duration or 0
    intervals = len(times) if last else len(times) - 1
    expected = intervals / declared / stream.time_base
    if span <= 0 or abs(span + last - expected) <= expected / 50 + 2:  # 2: both ends are rounded to whole ticks
        return declared
    return Fraction((len(times) - 1) / (span * stream.time_base)).limit_denominator(1_000_000) or declared


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


def _quarters(frame: av.VideoFrame) -> int:
    return round(frame.rotation / 90) % 4


def _upright(frame: av.VideoFrame) -> Array:
    """RGB pixels with the file's rotation applied."""
    return np.rot90(frame.to_ndarray(format="rgb24"), k=_quarters(frame))


def _fill(frame: Array, shown: tuple[int, ...], height: int, width: int, *, gray: bool) -> Array:
    """Scale to cover and cut the centre; `shown` is the frame's height and width where pixels are square."""
    scale = max(height / shown[0], width / shown[1])
    size = (max(width, round(shown[1] * scale)), max(height, round(shown[0] * scale)))
    image = Image.fromarray(np.ascontiguousarray(frame))
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    image = image.crop((left, top, left + width, top + height))
    return np.asarray(image.convert("L") if gray else image)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
