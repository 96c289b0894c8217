"""Outpainting: where the source stands on a larger picture, the rest of which is to be generated.

A stream's frames have one size, so here the canvas comes first and the source is made to fit into it. VACE
(ali-vilab/VACE vace/annotators/outpainting.py) adds room to a source of any size; `vace_canvas` does the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import Any

import numpy as np

from vace_adapt.composing import Outpaint
from vace_adapt.errors import InputError

Array = np.ndarray[Any, Any]

DIRECTIONS = ("left", "right", "up", "down")


@dataclass(frozen=True)
class Placement:
    """Where the source stands, in pixels.

    Attributes:
        canvas_height, canvas_width: of the whole picture.
        top, left, height, width: the rectangle in which the source is seen.
        inner: the source is as large as the canvas, and only seen inside the rectangle; otherwise it is as large as
            the rectangle.
    """

    canvas_height: int
    canvas_width: int
    top: int
    left: int
    height: int
    width: int
    inner: bool = False

    def __post_init__(self) -> None:
        shown = f"{self.height}x{self.width} at row {self.top}, column {self.left}"
        canvas = f"a canvas of {self.canvas_height}x{self.canvas_width}"
        fits = self.top + self.height <= self.canvas_height and self.left + self.width <= self.canvas_width
        if min(self.top, self.left) < 0 or min(self.height, self.width) < 1 or not fits:
            raise InputError(f"the source, {shown}, does not lie on {canvas}")
        if (self.height, self.width) == (self.canvas_height, self.canvas_width):
            raise InputError(f"the source, {shown}, fills {canvas}: nothing would be generated; use larger ratios")

    @property
    def rows(self) -> slice:
        """Rows in which the source is seen."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Columns in which the source is seen."""
        return slice(self.left, self.left + self.width)

    @property
    def source_height(self) -> int:
        """Height that the source's frames must have."""
        return self.canvas_height if self.inner else self.height

    @property
    def source_width(self) -> int:
        """Width that the source's frames must have."""
        return self.canvas_width if self.inner else self.width


def place_in(canvas_height: int, canvas_width: int, outpaint: Outpaint) -> Placement:
    """Place a source on a canvas of a given size.

    Args:
        canvas_height, canvas_width: of the stream, in pixels.
        outpaint: room around the source. The source gets ``canvas / (1 + both ratios)`` of each side, rounded; with
            `inner` it keeps its size, and its border, of ``ratio * canvas`` rounded down as in VACE, is generated.

    Returns:
        Where the source is; scaling frames to it, by covering and cutting or otherwise, is left to who reads them.

    Raises:
        InputError: at this size no pixel would be generated, or none kept.
    """
    if outpaint.inner:
        left, right = int(outpaint.left * canvas_width), int(outpaint.right * canvas_width)
        top, bottom = int(outpaint.up * canvas_height), int(outpaint.down * canvas_height)
        height, width = canvas_height - top - bottom, canvas_width - left - right
        return Placement(canvas_height, canvas_width, top, left, height, width, inner=True)
    top, height = _part(canvas_height, outpaint.up, outpaint.down)
    left, width = _part(canvas_width, outpaint.left, outpaint.right)
    return Placement(canvas_height, canvas_width, top, left, height, width)


def vace_canvas(
    source_height: int, source_width: int, directions: Collection[str], ratio: float, multiple: int = 8
) -> Placement:
    """The canvas VACE makes for a source.

    Args:
        source_height, source_width: in pixels.
        directions: some of left, right, up, down.
        ratio: room in each of these directions, of the source's side, rounded down to pixels.
        multiple: the canvas is enlarged to a multiple of it: in proportion in the directions given, else to the right
            and below. (There VACE's own mask says keep, though it has no picture; here it is generated.)

    Raises:
        InputError: an unknown direction or none, a ratio that adds no pixel, or a number outside its range.
    """
    wrong = [direction for direction in directions if direction not in DIRECTIONS]
    if wrong or not directions:
        raise InputError(f"directions must be some of {', '.join(DIRECTIONS)}, not {list(directions)}")
    if not 0 < ratio <= 4 or multiple < 1:
        raise InputError(f"expected a ratio over 0, at most 4, and a multiple of 1 or more; not {ratio} and {multiple}")
    across, along = int(ratio * source_width), int(ratio * source_height)
    width, left = _enlarged(source_width, across * ("left" in directions), across * ("right" in directions), multiple)
    height, top = _enlarged(source_height, along * ("up" in directions), along * ("down" in directions), multiple)
    return Placement(height, width, top, left, source_height, source_width)


def best_canvas(
    source_height: int, source_width: int, outpaint: Outpaint, area: int, unit: int = 16
) -> tuple[int, int]:
    """The canvas that fits a source best: as large as it is with its new room, or as `area` allows.

    Args:
        source_height, source_width: in pixels.
        outpaint: room around the source.
        area: largest number of pixels.
        unit: both sides are multiples of it.

    Returns:
        Height and width; rounding down to `unit` is all that changes the aspect.

    Raises:
        InputError: a number below 1, or a side would be shorter than `unit`.
    """
    if min(source_height, source_width, area, unit) < 1:
        raise InputError(
            f"height, width, area and unit must be 1 or more, not {source_height}, {source_width}, {area} and {unit}"
        )
    height, width = float(source_height), float(source_width)
    if not outpaint.inner:
        height, width = height * (1 + outpaint.up + outpaint.down), width * (1 + outpaint.left + outpaint.right)
    scale = min(1.0, sqrt(area / (height * width)))
    made = _whole(height * scale / unit) * unit, _whole(width * scale / unit) * unit
    if min(made) < unit:
        raise InputError(
            f"{source_height}x{source_width} with its new room is {round(height)}x{round(width)} (height x width), too "
            f"small or narrow for sides of at least {unit} within {area} pixels"
        )
    return made


def on_canvas(frames: Array, placement: Placement, fill: float = 128) -> Array:
    """Put the source's frames on the canvas.

    Args:
        frames: [..., h, w, C] of the placement's source size, any dtype.
        placement: where they are seen.
        fill: the value around them; VACE uses mid-gray.

    Returns:
        [..., H, W, C], same dtype.

    Raises:
        InputError: frames of another size.
    """
    _check_size(frames.shape[-3:-1], placement, "frames")
    rows, columns = _rectangle(placement)
    canvas = np.full(
        (*frames.shape[:-3], placement.canvas_height, placement.canvas_width, frames.shape[-1]), fill, frames.dtype
    )
    canvas[..., rows, columns, :] = frames[..., rows, columns, :] if placement.inner else frames
    return canvas


def canvas_mask(placement: Placement, mask: Array | None = None, *, vace_edge: bool = False) -> Array:
    """The mask of the canvas: generate around the source.

    Args:
        placement: where the source is.
        mask: the source's own, uint8 [..., h, w] of its size, 255 = generate; None keeps all of it.
        vace_edge: for `inner`, VACE keeps one column and one row more, to the right and below, of which it has no
            picture. True does the same.

    Returns:
        uint8 [..., H, W], or [H, W] without a mask.

    Raises:
        InputError: a mask of another dtype or size.
    """
    if mask is None:
        mask = np.zeros((placement.source_height, placement.source_width), np.uint8)
    if mask.dtype != np.uint8:
        raise InputError(f"mask must be uint8, not {mask.dtype}")
    _check_size(mask.shape[-2:], placement, "mask")
    rows, columns = _rectangle(placement, more=int(vace_edge and placement.inner))
    made = np.full((*mask.shape[:-2], placement.canvas_height, placement.canvas_width), 255, np.uint8)
    made[..., rows, columns] = mask[..., rows, columns] if placement.inner else mask
    return made


def _part(canvas: int, before: float, after: float) -> tuple[int, int]:
    """Start and length of the source along one side of the canvas."""
    length = round(canvas / (1 + before + after))
    return (round((canvas - length) * before / (before + after)) if before + after else 0), length


def _enlarged(source: int, before: int, after: int, multiple: int) -> tuple[int, int]:
    """Length of the canvas along one side, and where the source starts on it."""
    length = ceil((source + before + after) / multiple) * multiple
    return length, before * (length - source) // (before + after) if before else 0


def _whole(units: float) -> int:
    """Rounded down, where a number that should be whole may have come out just below."""
    return floor(units + 1e-9)


def _rectangle(placement: Placement, more: int = 0) -> tuple[slice, slice]:
    """Rows and columns in which the source is seen."""
    bottom, right = placement.top + placement.height + more, placement.left + placement.width + more
    return slice(placement.top, bottom), slice(placement.left, right)


def _check_size(came: tuple[int, ...], placement: Placement, name: str) -> None:
    height, width = placement.source_height, placement.source_width
    if came != (height, width):
        shown = "x".join(map(str, came)) or "without a size"
        raise InputError(f"{name}: {shown} (height x width) came, the source of this canvas is {height}x{width}")
