"""The masks of a stream: fed, or made by an annotator, and then inverted, reshaped, grown and feathered.

Shapes: B rows, T frames, h and w of the source. 1 (255) = generate, 0 = keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vace_adapt.annotators.find import annotator_settings, load_annotator
from vace_adapt.composing import MaskSettings
from vace_adapt.composition import mask_shape
from vace_adapt.composition.pool import AnnotatorPool
from vace_adapt.composition.steering import to_levels
from vace_adapt.contract import Annotator
from vace_adapt.errors import InputError


class Masks:
    """Makes the masks of one stream.

    Args:
        settings: how.
        options: of annotators, by name.
        pool: where annotators come from.

    Raises:
        InputError: the annotator makes control pictures, or cannot be used here.
    """

    def __init__(self, settings: MaskSettings, options: Mapping[str, Mapping[str, Any]], pool: AnnotatorPool) -> None:
        self._settings = settings
        self._annotators: list[Annotator] = []
        self.first_frames = 1
        if settings.annotator is not None:
            info = load_annotator(settings.annotator)
            if info.makes != "mask":
                raise InputError(f"annotator {info.name!r} makes no mask: name it in controls.structure")
            given = options.get(info.name, {})
            self._annotators = pool.rows(info.name, given, "mask")
            self.first_frames = info.first_frames(annotator_settings(info, given))

    @property
    def makes(self) -> bool:
        """Whether frames fed without a mask get one."""
        return bool(self._annotators)

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
        if self._changes:
            shaped = [self._shaped(to_levels(row)) for row in mask]
            mask = torch.from_numpy(np.stack(shaped))
        return mask.float() / 255 if mask.dtype == torch.uint8 else mask

    @property
    def _changes(self) -> bool:
        """Whether masks are not taken as they come."""
        return self._settings.model_copy(update={"annotator": None}) != MaskSettings()

    def _shaped(self, mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The masks of a row, uint8 [T, h, w]."""
        chosen = self._settings
        if chosen.invert:
            mask = mask_shape.invert(mask)
        if chosen.shape != "as_given":
            mask = mask_shape.hull(mask) if chosen.shape == "hull" else mask_shape.box(mask)
        if chosen.augment is not None:
            mask = mask_shape.augment(mask, chosen.augment)
        if chosen.grow:
            mask = mask_shape.grow(mask, chosen.grow)
        return mask_shape.feather(mask, chosen.feather) if chosen.feather else mask
