"""Frames for annotators without weights, and videos cut into calls."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st

COUNTS = st.lists(st.integers(1, 4), max_size=6)
"""Frames of the first calls; the last call gets the rest."""


def cut(annotator: Any, frames: np.ndarray[Any, Any], counts: list[int]) -> np.ndarray[Any, Any]:
    """The pictures of frames that come in calls of `counts` and a last call of the rest."""
    made, at = [], 0
    for count in (*counts, len(frames)):
        part = frames[at : at + count]
        if len(part):
            made.append(annotator(part, at))
        at += count
    return np.concatenate(made)


def moving(
    count: int, height: int = 48, width: int = 64, step: tuple[int, int] = (2, 1), seed: int = 0
) -> np.ndarray[Any, Any]:
    """A coloured texture that moves by `step` pixels to the right and down in every frame: uint8 [T, H, W, 3]."""
    right, down = step
    size = (height + abs(down) * count, width + abs(right) * count, 3)
    ground = cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, size).astype(np.float32), (0, 0), 2)
    ground = ((ground - ground.min()) / np.ptp(ground) * 255).astype(np.uint8)
    corners = [
        (down * -t if down < 0 else down * (count - t), right * -t if right < 0 else right * (count - t))
        for t in range(count)
    ]
    return np.stack([ground[top : top + height, left : left + width] for top, left in corners])


def halves(left: int, right: int, height: int = 32, width: int = 48) -> np.ndarray[Any, Any]:
    """A gray frame with an upright edge in the middle: uint8 [H, W, 3]."""
    frame = np.full((height, width, 3), left, np.uint8)
    frame[:, width // 2 :] = right
    return frame
