"""Outpainting: where the source stands on a larger picture, the rest of which is to be generated.

A stream's frames have one size, so here the canvas comes first and the source is made to fit into it. VACE
(ali-vilab/VACE vace/annotators/outpainting.py) adds room to a source of any size. Where its sizes come out the same, so
do frames and masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from vace_adapt.composing import Outpaint
from vace_adapt.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]


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


def on_canvas(frames: Tensor, placement: Placement, fill: float) -> Tensor:
    """Put the source's frames on the canvas.

    Args:
        frames: [..., h, w, C] of the placement's source size, any dtype and device.
        placement: where they are seen.
        fill: the value around them, in the frames' own units; VACE has level 128 there.

    Returns:
        [..., H, W, C], a new tensor of the same dtype and device.

    Raises:
        InputError: frames of another size.
    """
    _check_size(tuple(frames.shape[-3:-1]), placement, "frames")
    size = placement.canvas_height, placement.canvas_width
    canvas = frames.new_full((*frames.shape[:-3], *size, frames.shape[-1]), fill)
    rows, columns = placement.rows, placement.columns
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
    rows, columns = placement.rows, placement.columns
    if vace_edge and placement.inner:
        rows, columns = slice(rows.start, rows.stop + 1), slice(columns.start, columns.stop + 1)
    made = np.full((*mask.shape[:-2], placement.canvas_height, placement.canvas_width), 255, np.uint8)
    made[..., rows, columns] = mask[..., rows, columns] if placement.inner else mask
    return made


def _part(canvas: int, before: float, after: float) -> tuple[int, int]:
    """Start and length of the source along one side of the canvas."""
    length = round(canvas / (1 + before + after))
    return (round((canvas - length) * before / (before + after)) if before + after else 0), length


def _whole(units: float) -> int:
    """Rounded down, where a number that should be whole may have come out just below."""
    return floor(units + 1e-9)


def _check_size(came: tuple[int, ...], placement: Placement, name: str) -> None:
    height, width = placement.source_height, placement.source_width
    if came != (height, width):
        shown = "x".join(map(str, came)) or "without a size"
        raise InputError(f"{name}: {shown} (height x width) came, the source of this canvas is {height}x{width}")
