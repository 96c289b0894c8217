"""Annotators that remember nothing: one picture of each frame by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array


class EachFrame:
    """Draws every frame by itself.

    Args:
        picture: uint8 [H, W, 3] RGB to a picture of the same shape.
    """

    def __init__(self, picture: Callable[[Array], Array]) -> None:
        self._picture = picture

    def __call__(self, frames: Array, start: int) -> Array:
        return np.stack([self._picture(frame) for frame in frames])

    def pause(self) -> None:
        """It remembers nothing."""
