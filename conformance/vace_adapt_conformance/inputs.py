"""Random inputs of a stream."""

from __future__ import annotations

from typing import Any

import numpy as np


def frames(count: int, height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Control frames, uint8 [T, H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def picture(seed: int = 0) -> np.ndarray[Any, Any]:
    """A reference image, uint8 [40, 30, 3]."""
    return np.random.default_rng(1000 + seed).integers(0, 256, (40, 30, 3), dtype=np.uint8)
