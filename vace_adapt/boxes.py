"""Boxes as fractions of a picture's sides, and the pixels in them. Importing this imports neither torch nor OpenCV."""

from __future__ import annotations

from math import ceil
from typing import Annotated

from pydantic import AfterValidator, Field


def _ordered(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"must be [left, top, right, bottom] with left < right and top < bottom, not {list(box)}")
    return box


Fraction = Annotated[float, Field(ge=0, le=1)]
Box = Annotated[tuple[Fraction, Fraction, Fraction, Fraction], AfterValidator(_ordered)]
"""[left, top, right, bottom] as fractions of width and height, 0..1, left < right and top < bottom."""


def to_pixels(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """The pixels whose centres lie in a box: its edges rounded to the nearest pixel edge.

    Args:
        box: left, top, right, bottom as fractions.
        height, width: of the frame.

    Returns:
        left, top, right, bottom; the last two are the first column and row beyond the box.
    """
    left, top, right, bottom = box
    return ceil(left * width - 0.5), ceil(top * height - 0.5), ceil(right * width - 0.5), ceil(bottom * height - 0.5)
