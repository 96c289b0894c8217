"""The masks of a stream: fed, or made by an annotator, and then inverted, reshaped, grown and feathered.

Shapes: B rows, T frames, h and w of the source. 1 (255) = generate, 0 = keep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vace_adapt.composition import mask_shape
from vace_adapt.composition.mask_drawing import box_of_dots, hull_of_dots
from vace_adapt.composition.pool import AnnotatorPool
from vace_adapt.composition.refuse import of_mask
from vace_adapt.composition.steering import to_levels
from vace_adapt.contract import Annotator
from vace_adapt.controls import ControlSettings

Change = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


def _each(change: Change) -> Change:
    return lambda masks: np.stack([change(mask) for mask in masks])


SHAPES: dict[str, Change] = {
    "hull": mask_shape.hull,
    "box": mask_shape.box,
    "dots_hull": _each(hull_of_dots),
    "dots_box": _each(box_of_dots),
}
"""What becomes of masks uint8 [T, h, w]."""


class Masks:
    """Makes the masks of one stream.

    Args:
        settings: options of the control; see `vace_adapt.composition.refuse` for what they must be.
        pool: where annotators come from.
    """

    def __init__(self, settings: ControlSettings, pool: AnnotatorPool) -> None:
        self._settings = settings.mask
        self._annotators: list[Annotator] = []
        self.first_frames = 1
        chosen = of_mask(settings)
        if chosen is not None:
            self._annotators = pool.rows(chosen.info.name, chosen.options, "mask")
            self.first_frames = chosen.info.first_frames(chosen.settings)

    def __call__(self, frames: Tensor | None, mask: Tensor | None, start: int) -> Tensor | None:
        """The mask of a chunk's frames.

        Args:
            frames: [B, T, h, w, 3], or None where none were fed.
            mask: as fed, uint8 or float [B, T, h, w]; None where none was.
            start: number of the first frame.

        Returns:
            float32 [B, T, h, w] within 0..1, or None: generate everywhere.
        """
        if mask is None and frames is not None and self._annotators:
            rows = [a(to_levels(row), start) for a, row in zip(self._annotators, frames, strict=True)]
            mask = torch.from_numpy(np.stack(rows))
        elif self._annotators:
            for annotator in self._annotators:
                annotator.pause()
        if mask is None:
            return None
        if self._settings.changes:
            shaped = [self._shaped(to_levels(row)) for row in mask]
            mask = torch.from_numpy(np.stack(shaped))
        return mask.float() / 255 if mask.dtype == torch.uint8 else mask

    def _shaped(self, mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The masks of a row, uint8 [T, h, w]."""
        chosen = self._settings
        if chosen.invert:
            mask = mask_shape.invert(mask)
        if chosen.shape != "as_given":
            mask = SHAPES[chosen.shape](mask)
        if chosen.augment is not None:
            mask = mask_shape.augment(mask, chosen.augment)
        if chosen.grow:
            mask = mask_shape.grow(mask, chosen.grow)
        return mask_shape.feather(mask, chosen.feather) if chosen.feather else mask
