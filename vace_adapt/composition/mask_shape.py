"""Masks made larger, smaller, softer or simpler: what may be done to a mask before VACE sees it.

A mask is uint8, [H, W] or [T, H, W], 255 = generate, 0 = keep; every frame is changed on its own. Values between are
soft: the model sees them as they are, while frames are split, and the region that is measured here lies, where the mask
is above 127. A frame without such a region has no shape: it comes out empty, or, from `expand`, as it is. No function
changes its input; one that has nothing to do may give it back.

Sources: VACE (arXiv:2503.07598); ali-vilab/VACE vace/annotators/maskaug.py, called VACE below.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from vace_adapt.errors import InputError

Array = np.ndarray[Any, Any]
Sides = tuple[float, float, float, float]


def grow(mask: Array, pixels: int) -> Array:
    """Let the region to generate grow.

    Args:
        mask: see above.
        pixels: how far (Euclidean); below 0 it shrinks. It does not shrink at the frame's edge, where it is taken to go
            on.

    Returns:
        A hard mask, 0 and 255; for 0 pixels the mask as it is.
    """
    check_mask(mask)
    if pixels == 0:
        return mask
    if pixels < 0:
        return _by_frame(mask, lambda frame: 255 * (_distance_to(frame <= 127) > -pixels))
    return _by_frame(mask, lambda frame: 255 * (_distance_to(frame > 127) <= pixels))


def feather(mask: Array, pixels: int) -> Array:
    """Let the region to generate fade out, outside of it.

    The ramp lies outside, so that all that was to be generated still is. At distance d it is ``255 * (1 - d / (pixels +
    1))``: half of it is above 127, where frames are split, so pictures are replaced up to half of `pixels` further out.

    Args:
        mask: see above.
        pixels: width of the ramp, 0 or more.

    Returns:
        255 in the region, then the ramp, then 0; for 0 pixels the mask as it is.

    Raises:
        InputError: below 0.
    """
    check_mask(mask)
    if pixels < 0:
        raise InputError(f"feather must be 0 pixels or more, not {pixels}")
    if pixels == 0:
        return mask
    return _by_frame(mask, lambda frame: np.rint(255 * (1 - _distance_to(frame > 127) / (pixels + 1)).clip(0, 1)))


def invert(mask: Array) -> Array:
    """Swap generate and keep, soft values too."""
    check_mask(mask)
    return 255 - mask


def hull(mask: Array) -> Array:
    """The convex hull of a frame's regions all together, as a hard mask; its edge is drawn by VACE's rule."""
    check_mask(mask)
    return _by_frame(mask, _hull)


def box(mask: Array) -> Array:
    """The bounding box of a frame's regions all together, as a hard mask."""
    check_mask(mask)
    return _by_frame(mask, _box)


def expand(
    mask: Array,
    ratio: float = 0.3,
    sides: Sides = (1.0, 1.0, 1.0, 1.0),
    iterations: int = 1,
    *,
    vace_edge: bool = False,
) -> Array:
    """Grow to the four sides by shares of the region's own bounding box, as VACE's mask augmentation does.

    A side grows by ``side * min(ratio * length of the box, half of the room up to the frame's edge)``, divided by
    `iterations`, rounded down, times `iterations`. To the right and below, the box's last pixel counts as room. Soft
    values grow as they are.

    Args:
        mask: see above.
        ratio: 0 or more.
        sides: factors 0..1 of left, right, top, bottom.
        iterations: 1 or more.
        vace_edge: VACE's dilation kernel is cut: left and top, where no side grows further than they do, come out a
            pixel short in every iteration. True does the same.

    Returns:
        uint8, same shape.

    Raises:
        InputError: a number outside its range.
    """
    check_mask(mask)
    if not (isfinite(ratio) and ratio >= 0):
        raise InputError(f"expand ratio must be 0 or more, not {ratio}")
    if len(sides) != 4 or not all(0 <= side <= 1 for side in sides):
        raise InputError(f"expand sides must be 4 factors within 0..1 (left, right, top, bottom), not {list(sides)}")
    if iterations < 1:
        raise InputError(f"expand iterations must be 1 or more, not {iterations}")
    return _by_frame(mask, lambda frame: _expanded(frame, ratio, sides, iterations, vace_edge))


def augment(mask: Array, seed: int, ratio: float = 0.3) -> Array:
    """Expand by numbers drawn as VACE draws them: 1..10 iterations, side factors within 0..1.

    They are drawn once from the seed, so that every frame of a stream, in whatever call it comes, gets the same ones.

    Args:
        mask: see above.
        seed: 0 or more.
        ratio: of `expand`.

    Returns:
        uint8, same shape.
    """
    if seed < 0:
        raise InputError(f"augment seed must be 0 or more, not {seed}")
    generator = np.random.default_rng(seed)
    iterations = int(generator.integers(1, 11))
    left, right, top, bottom = generator.random(4).tolist()
    return expand(mask, ratio, (left, right, top, bottom), iterations)


def check_mask(mask: Array, name: str = "mask") -> None:
    """Refuse what is not a mask.

    Raises:
        InputError: another dtype or shape, or no pixel; begins with `name`.
    """
    if mask.dtype != np.uint8 or mask.ndim not in (2, 3) or mask.size == 0:
        raise InputError(f"{name} must be uint8 [H, W] or [T, H, W], not {mask.dtype} {list(mask.shape)}")


def _by_frame(mask: Array, change: Callable[[Array], Array]) -> Array:
    if mask.ndim == 2:
        return change(mask).astype(np.uint8)
    return np.stack([change(frame).astype(np.uint8) for frame in mask])


def _distance_to(region: Array) -> Array:
    """Euclidean distance of every pixel centre to the region's nearest one; infinite where there is none."""
    if not region.any():
        return np.full(region.shape, np.inf, np.float32)
    return cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _bounds(mask: Array) -> tuple[int, int, int, int] | None:
    """First and last column, first and last row of the region; None where there is none."""
    region = mask > 127
    columns, rows = np.flatnonzero(region.any(axis=0)), np.flatnonzero(region.any(axis=1))
    return (int(columns[0]), int(columns[-1]), int(rows[0]), int(rows[-1])) if rows.size else None


def _box(mask: Array) -> Array:
    made = np.zeros_like(mask)
    bounds = _bounds(mask)
    if bounds is not None:
        left, right, top, bottom = bounds
        made[top : bottom + 1, left : right + 1] = 255
    return made


def _hull(mask: Array) -> Array:
    region = (mask > 127).astype(np.uint8)
    outlines, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corners = cv2.convexHull(np.concatenate(outlines), clockwise=True)[:, 0] if outlines else ()
    drawn = Image.new("L", mask.shape[::-1])
    if len(corners) > 1:
        ImageDraw.Draw(drawn).polygon([(float(x), float(y)) for x, y in corners], fill=255)
    return np.maximum(np.asarray(drawn), region * 255)


def _expanded(mask: Array, ratio: float, sides: Sides, iterations: int, vace_edge: bool) -> Array:
    bounds = _bounds(mask)
    if bounds is None:
        return mask
    left, right, top, bottom = bounds
    height, width = mask.shape
    lengths = [ratio * (right - left + 1)] * 2 + [ratio * (bottom - top + 1)] * 2
    rooms = left / 2, (width - right) / 2, top / 2, (height - bottom) / 2
    steps = [
        int(side * min(length, room) / iterations) for side, length, room in zip(sides, lengths, rooms, strict=True)
    ]
    longest = max(steps)
    if longest == 0:
        return mask
    if vace_edge:
        steps[0], steps[2] = min(steps[0], longest - 1), min(steps[2], longest - 1)
    kernel = np.ones((steps[2] + steps[3] + 1, steps[0] + steps[1] + 1), np.uint8)
    return cv2.dilate(mask, kernel, anchor=(steps[1], steps[3]), iterations=iterations)
