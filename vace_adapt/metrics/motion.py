"""How a video holds together from frame to frame and from chunk to chunk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from vace_adapt.metrics.control import optical_flow

Array = np.ndarray[Any, Any]


def warp_error(frames: Array) -> float:
    """Mean squared difference of each frame and the one before it, moved along the optical flow, with levels within
    0..1; lower is steadier. The unit is 1e-3.

    Lai et al., Learning Blind Video Temporal Consistency (ECCV 2018), section 4. Pixels that are hidden in one of the
    two frames do not count: those whose flow forth and back does not return (Ruder et al., GCPR 2016).
    """
    if len(frames) < 2:
        return math.nan
    forth, back = optical_flow(frames), optical_flow(frames[::-1])[::-1]
    errors = []
    for i in range(len(frames) - 1):
        moved = _moved(frames[i].astype(np.float32) / 255, back[i])
        seen = _returns(back[i], forth[i])
        difference = ((frames[i + 1].astype(np.float32) / 255 - moved) ** 2).mean(axis=-1)
        if seen.any():
            errors.append(float(difference[seen].mean()))
    return 1000 * float(np.mean(errors)) if errors else math.nan


def boundary_jumps(frames: Array, chunks: Sequence[int]) -> list[float]:
    """How much more the picture changes between two chunks than within them: the mean absolute difference of the two
    frames at each boundary over the median of those inside the two chunks; 1 is no jump, lower is better.

    Args:
        frames: uint8 [T, H, W, 3].
        chunks: frames of each chunk; their sum is T.

    Returns:
        One value for each boundary, so one less than there are chunks; NaN where nothing moves inside.
    """
    steps = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    ends = np.cumsum(chunks)
    starts = ends - np.asarray(chunks)
    jumps = []
    for left, middle, right in zip(starts[:-1], ends[:-1], ends[1:], strict=True):
        inside = np.concatenate([steps[left : middle - 1], steps[middle : right - 1]])
        usual = float(np.median(inside)) if inside.size else 0.0
        jumps.append(float(steps[middle - 1]) / usual if usual else math.nan)
    return jumps


def _moved(frame: Array, back: Array) -> Array:
    """A frame as it looks one frame later: `back` [H, W, 2] says where each pixel came from."""
    x, y = _coordinates(back)
    return cv2.remap(frame, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _returns(back: Array, forth: Array) -> Array:
    """Pixels of the later frame, bool [H, W], that are within the picture and whose flow there and back returns."""
    height, width = back.shape[:2]
    x, y = _coordinates(back)
    other = cv2.remap(forth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    gap = ((back + other) ** 2).sum(axis=-1)
    bound = 0.01 * ((back**2).sum(axis=-1) + (other**2).sum(axis=-1)) + 0.5
    return (gap < bound) & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _coordinates(flow: Array) -> tuple[Array, Array]:
    rows, columns = np.indices(flow.shape[:2], np.float32)
    return columns + flow[..., 0], rows + flow[..., 1]
