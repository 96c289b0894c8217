"""Boxes that move, in an annotator's settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from vace_adapt.boxes import Box
from vace_adapt.contract import Frozen
from vace_adapt.errors import InputError


class BoxAt(Frozen):
    """Where a box is at one frame.

    Attributes:
        frame: its number in the stream.
        box: left, top, right, bottom as fractions of width and height.
    """

    frame: Annotated[int, Field(ge=0)]
    box: Box


def _ascending(path: tuple[BoxAt, ...]) -> tuple[BoxAt, ...]:
    if not path:
        raise ValueError("a path needs at least one point")
    frames = [point.frame for point in path]
    if frames != sorted(set(frames)):
        raise ValueError(f"the frames of a path must rise from point to point, not {frames}")
    return path


BoxPath = Annotated[tuple[BoxAt, ...], AfterValidator(_ascending)]
"""Where a box is at some frames, in order; `box_at` tells it for the others."""


def box_at(path: Sequence[BoxAt], frame: int) -> Box:
    """Where a moving box is: linear between the points of its path, still before the first and after the last.

    Args:
        path: one point or more, frames ascending.
        frame: number of the frame in the stream.

    Returns:
        left, top, right, bottom as fractions.
    """
    earlier = [point for point in path if point.frame <= frame]
    later = [point for point in path if point.frame > frame]
    if not earlier:
        return later[0].box
    if not later:
        return earlier[-1].box
    start, end = earlier[-1], later[0]
    share = (frame - start.frame) / (end.frame - start.frame)
    left, top, right, bottom = ((1 - share) * a + share * b for a, b in zip(start.box, end.box, strict=True))
    return left, top, right, bottom


def check_boxes(boxes: Iterable[Box], height: int, width: int) -> None:
    """Refuse boxes that may cover no pixel.

    Raises:
        InputError: a side is shorter than a pixel.
    """
    for left, top, right, bottom in boxes:
        sides = (bottom - top) * height, (right - left) * width
        if min(sides) < 1 - 1e-6:  # a side of exactly one pixel may come out just below it
            raise InputError(
                f"box {[left, top, right, bottom]} is {sides[0]:.3g}x{sides[1]:.3g} pixels (height x width) of a "
                f"{height}x{width} frame: a side must be at least 1"
            )
