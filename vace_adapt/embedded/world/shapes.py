"""Flat shapes and their textures, as functions of place. Lengths are in pixels; y points down; arrays are float32.

A shape is a signed distance, negative inside, in coordinates whose origin is its centre. A texture is the share 0..1 of
the second colour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Place = Callable[[Array, Array, float], Array]
"""x, y [..., H, W] and a radius to one number for each place."""


def _ball(x: Array, y: Array, r: float) -> Array:
    return np.hypot(x, y) - r


def _square(x: Array, y: Array, r: float) -> Array:
    return np.maximum(abs(x), abs(y)) - 0.86 * r


def _triangle(x: Array, y: Array, r: float) -> Array:
    return np.maximum(0.866 * abs(x) + 0.5 * y, -y) - 0.55 * r


def _diamond(x: Array, y: Array, r: float) -> Array:
    return 0.7071 * (abs(x) + abs(y)) - 0.76 * r


def _ring(x: Array, y: Array, r: float) -> Array:
    return abs(np.hypot(x, y) - 0.72 * r) - 0.28 * r


def _cross(x: Array, y: Array, r: float) -> Array:
    upright = np.maximum(abs(x) - 0.36 * r, abs(y) - r)
    return np.minimum(upright, np.maximum(abs(x) - r, abs(y) - 0.36 * r))


SHAPES: dict[str, Place] = {
    "ball": _ball, "square": _square, "triangle": _triangle, "diamond": _diamond, "ring": _ring, "cross": _cross,
}  # fmt: skip
"""Rigid shapes by the word a caption has for them."""


def _solid(x: Array, y: Array, r: float) -> Array:
    return np.zeros_like(x)


def _striped(x: Array, y: Array, r: float) -> Array:
    return _soft(6 * np.sin(2 * np.pi * x / (0.9 * r)))


def _split(x: Array, y: Array, r: float) -> Array:
    return _soft(3 * y)


def _spotted(x: Array, y: Array, r: float) -> Array:
    return _soft(2 * (0.45 * r - np.hypot(x, y)))


TEXTURES: dict[str, Place] = {"solid": _solid, "striped": _striped, "split": _split, "spotted": _spotted}
"""Textures by the word a caption has for them; ``solid`` is not said."""


def coverage(distance: Array) -> Array:
    """How much of a pixel lies inside, 0..1."""
    return np.clip(0.5 - distance, 0, 1)


def _soft(level: Array) -> Array:
    return (1 + np.tanh(level / 2)) / 2
