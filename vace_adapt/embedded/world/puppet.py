"""A jointed figure that waves and walks on the spot: what a pose control is about.

It stands upright and faces the viewer, so its right side is on the picture's left.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

UPPER_ARM, FOREARM, THIGH, SHIN = 0.40, 0.36, 0.46, 0.44
HEAD_AT, HEAD, TORSO, LIMB = (0.0, -0.78), 0.26, 0.20, 0.12
"""Lengths as multiples of the figure's radius; the widths are half widths."""

BONES = ((1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7), (8, 9), (9, 10), (11, 12), (12, 13))
"""Limbs as pairs of OpenPose's 18 body points; the torso goes from the neck to the middle of the hips."""


class Gait(NamedTuple):
    """How the limbs swing: radians a frame, and the phase of arms and legs at frame 0."""

    speed: float
    arms: float
    legs: float


def joints(gait: Gait, frames: int) -> Array:
    """Where the joints are, relative to the figure's centre.

    Returns:
        float32 [T, 18, 2], x and y as multiples of its radius, in the order of OpenPose's 18 body points.
    """
    time = np.arange(frames, dtype=np.float32) * gait.speed
    points = np.zeros((frames, 18, 2), np.float32)
    points[:, 0] = HEAD_AT
    points[:, 1] = (0, -0.46)
    for side, first, phase in ((-1, 2, gait.arms), (1, 5, gait.arms + 2.1)):
        raised = 0.9 + 0.8 * np.sin(time + phase)
        points[:, first] = (0.24 * side, -0.40)
        points[:, first + 1] = points[:, first] + UPPER_ARM * _hanging(side * raised)
        points[:, first + 2] = points[:, first + 1] + FOREARM * _hanging(side * (raised + 0.5 + 0.5 * np.cos(time)))
    for side, first, phase in ((-1, 8, gait.legs), (1, 11, gait.legs + np.pi)):
        apart = 0.25 + 0.3 * np.sin(time + phase)
        points[:, first] = (0.15 * side, 0.14)
        points[:, first + 1] = points[:, first] + THIGH * _hanging(side * apart)
        points[:, first + 2] = points[:, first + 1] + SHIN * _hanging(side * (apart - 0.15))
    for point, offset in zip((14, 15, 16, 17), (-0.09, 0.09, -0.2, 0.2), strict=True):
        points[:, point] = (offset, HEAD_AT[1] - (0.07 if abs(offset) < 0.1 else 0.02))
    return points


def distance(x: Array, y: Array, points: Array, radius: float) -> tuple[Array, Array]:
    """Signed distance to the figure, and the motion of its nearest part.

    Args:
        x, y: [T, H, W] pixels relative to its centre.
        points: [T, 18, 2], see `joints`.
        radius: in pixels.

    Returns:
        float32 [T, H, W], and [T, H, W, 2] pixels since the frame before, relative to its centre.
    """
    at = points * np.float32(radius)
    hips = at[:, (8, 11)].mean(axis=1)
    parts = [(at[:, a], at[:, b], LIMB) for a, b in BONES]
    parts += [(at[:, 1], hips, TORSO), (at[:, 0], at[:, 0], HEAD)]
    nearest = np.full(x.shape, np.inf, np.float32)
    motion = np.zeros((*x.shape, 2), np.float32)
    for start, end, width in parts:
        along, gap = _capsule(x, y, start, end)
        gap = gap - width * radius
        closer = gap < nearest
        nearest = np.where(closer, gap, nearest)
        moved = (1 - along[..., None]) * _since(start) + along[..., None] * _since(end)
        motion = np.where(closer[..., None], moved, motion)
    return nearest, motion


def _hanging(angle: Array) -> Array:
    """A unit vector at this angle from straight down: [T, 2]."""
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1)


def _capsule(x: Array, y: Array, start: Array, end: Array) -> tuple[Array, Array]:
    """The nearest place on a line, 0 at its start, and the distance to it: each [T, H, W]."""
    across, down = (x - start[:, 0, None, None]), (y - start[:, 1, None, None])
    dx, dy = np.moveaxis((end - start)[:, None, None], -1, 0)
    along = np.clip((across * dx + down * dy) / np.maximum(dx**2 + dy**2, 1e-6), 0, 1)
    return along, np.hypot(across - along * dx, down - along * dy)


def _since(points: Array) -> Array:
    """Motion of points [T, 2] since the frame before, as [T, 1, 1, 2]; none at frame 0."""
    return np.diff(points, axis=0, prepend=points[:1])[:, None, None]
