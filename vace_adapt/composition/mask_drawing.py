"""Masks that a person draws with dots: the area between them, or their box.

Dots are a picture, uint8 [H, W], of blots of 255; pixels that touch by a side belong to one blot, and a blot stands for
its centre. Masks are uint8 [H, W], 255 = generate, 0 = keep. Source: ali-vilab/VACE vace/annotators/mask.py.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from vace_adapt.errors import InputError

Array = np.ndarray[Any, Any]
Point = tuple[float, float]


def hull_of_dots(dots: Array) -> Array:
    """The convex hull of the blots' centres: every pixel whose own centre lies inside it or on its edge.

    Args:
        dots: see above.

    Returns:
        uint8 [H, W].

    Raises:
        InputError: not such a picture, or fewer than three blots that are not on one line.
    """
    centres = _centres(dots)
    corners = _convex_hull(centres)
    if len(corners) < 3:
        raise InputError(f"dots: a hull needs at least 3 blots of 255 that are not on one line, not {len(centres)}")
    rows, columns = np.mgrid[: dots.shape[0], : dots.shape[1]]
    inside = np.ones(dots.shape, bool)
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        inside &= _turn(start, end, (columns, rows)) >= -1e-9  # pixels on the edge may come out just below 0
    return inside.astype(np.uint8) * 255


def box_of_dots(dots: Array) -> Array:
    """The bounding box of the blots' centres, each rounded down to a pixel, the last one included.

    Args:
        dots: see above.

    Returns:
        uint8 [H, W].

    Raises:
        InputError: not such a picture, or no blot.
    """
    centres = _centres(dots)
    if not centres:
        raise InputError("dots: there is no blot of 255")
    columns, rows = ([int(position) for position in axis] for axis in zip(*centres, strict=True))
    mask = np.zeros_like(dots)
    mask[min(rows) : max(rows) + 1, min(columns) : max(columns) + 1] = 255
    return mask


def _centres(dots: Array) -> list[Point]:
    """Column and row of every blot's centre, sorted."""
    if dots.dtype != np.uint8 or dots.ndim != 2 or dots.size == 0:
        raise InputError(f"dots must be uint8 [H, W], not {dots.dtype} {list(dots.shape)}")
    blots = (dots == 255).astype(np.uint8)
    _, labels = cv2.connectedComponents(blots, connectivity=4)
    rows, columns = np.nonzero(blots)
    own = labels[rows, columns]
    sizes = np.bincount(own)[1:]
    centres = [np.bincount(own, weights=axis)[1:] / sizes for axis in (columns, rows)]
    return sorted(zip(*(axis.tolist() for axis in centres), strict=True))


def _convex_hull(points: list[Point]) -> list[Point]:
    """Corners of the convex hull of sorted points, in order (Andrew's monotone chain, 1979); two or fewer on a line."""
    corners: list[Point] = []
    for chain in (points, points[::-1]):
        side: list[Point] = []
        for point in chain:
            while len(side) > 1 and _turn(side[-2], side[-1], point) <= 1e-9:
                side.pop()
            side.append(point)
        corners += side[:-1]
    return corners


def _turn(start: Point, end: Point, point: Any) -> Any:
    """Over 0 where a point lies on the inner side of an edge, 0 on its line."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])
