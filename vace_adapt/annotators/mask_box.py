"""A mask from a box, still or moving along a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import model_validator

from vace_adapt.annotators.boxes import BoxAt, BoxPath, box_at, check_boxes
from vace_adapt.boxes import Box, to_pixels
from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array


class MaskBoxSettings(AnnotatorSettings):
    """Where the box is: one of the two.

    Attributes:
        box: left, top, right, bottom as fractions of width and height, in every frame.
        path: points ``{frame, box}``, frames ascending. The box moves linearly between them and stands still before
            the first and after the last.
    """

    box: Box | None = None
    path: BoxPath | None = None

    @model_validator(mode="after")
    def _one_given(self) -> MaskBoxSettings:
        if (self.box is None) == (self.path is None):
            raise ValueError("give either box or path")
        return self


class MaskBox:
    """Generate inside the box, keep the rest.

    Args:
        path: where the box is.
        height, width: of the masks.
    """

    def __init__(self, path: tuple[BoxAt, ...], height: int, width: int) -> None:
        self._path = path
        self._size = height, width

    def __call__(self, frames: Array, start: int) -> Array:
        masks = np.zeros(frames.shape[:3], np.uint8)
        for i, mask in enumerate(masks):
            left, top, right, bottom = to_pixels(box_at(self._path, start + i), *self._size)
            mask[top:bottom, left:right] = 255
        return masks

    def pause(self) -> None:
        """It goes by frame numbers only."""


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="mask_box",
        hook_api=HOOK_API,
        summary="a box to be generated, still or moving along a path",
        makes="mask",
        settings=MaskBoxSettings,
        make=_make,
        reads="nothing",
    )


def _make(settings: MaskBoxSettings, canvas: Canvas) -> MaskBox:
    path = (BoxAt(frame=0, box=settings.box),) if settings.box is not None else settings.path or ()
    check_boxes((point.box for point in path), canvas.height, canvas.width)
    return MaskBox(path, canvas.height, canvas.width)
