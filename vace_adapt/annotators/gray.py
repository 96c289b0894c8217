"""The frames without their colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import cv2

from vace_adapt.annotators.each_frame import EachFrame
from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

Order = Literal["rgb", "bgr"]


class GraySettings(AnnotatorSettings):
    """How colours become gray.

    Attributes:
        order: the order the three channels are taken in. ``rgb`` is the luma of ITU-R BT.601: what an eye sees, and
            what gray video made elsewhere shows. ``bgr`` is what VACE's own code does to RGB frames
            (vace/annotators/gray.py): red gets the weight of blue and the other way round. The two differ in the
            brightness of red and blue things only; choose ``bgr`` to be shown exactly what VACE shows its model.
    """

    order: Order = "rgb"


def gray(frame: Array, order: Order = "rgb") -> Array:
    """A frame without its colours.

    Args:
        frame: uint8 [H, W, 3] RGB.
        order: see `GraySettings`.

    Returns:
        uint8 [H, W, 3], three equal channels.
    """
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY if order == "rgb" else cv2.COLOR_BGR2GRAY)
    return cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB)


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="gray",
        hook_api=HOOK_API,
        summary="the frames without their colours",
        makes="control",
        settings=GraySettings,
        make=_make,
    )


def _make(settings: GraySettings, canvas: Canvas) -> EachFrame:
    return EachFrame(lambda frame: gray(frame, settings.order))
