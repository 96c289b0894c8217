"""Canny's edges: thin lines, either there or not.

Canny, A Computational Approach to Edge Detection (PAMI 1986), as OpenCV has it. VACE was not trained with it: its only
line control is scribble, dark lines on white, and its authors advise to invert white lines on black
(ali-vilab/VACE issue 100). ``invert`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import cv2
from pydantic import Field, model_validator

from vace_adapt.annotators.each_frame import EachFrame
from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

STEEPEST = 2040
"""The largest sum of the absolute derivatives in x and y that a 3x3 Sobel filter can give on 8 bits."""

Threshold = Annotated[int, Field(ge=0, le=STEEPEST)]


class CannySettings(AnnotatorSettings):
    """What counts as an edge.

    Attributes:
        low, high: thresholds of the gradient, the sum of its absolute 3x3 Sobel derivatives in the channel where it is
            largest, 0..2040. An edge begins where it is above ``high`` and goes on while it is above ``low``.
        blur: standard deviation in pixels of a Gaussian that is applied first, 0 for none. More of it leaves out noise
            and texture.
        invert: dark lines on white, as VACE's scribble, instead of white lines on black.
    """

    low: Threshold = 100
    high: Threshold = 200
    blur: Annotated[float, Field(ge=0, le=20)] = 0.0
    invert: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> CannySettings:
        if self.low > self.high:
            raise ValueError(f"low must not be above high, not {self.low} and {self.high}")
        return self


def canny(frame: Array, settings: CannySettings) -> Array:
    """The edges of a frame.

    Args:
        frame: uint8 [H, W, 3] RGB.
        settings: what counts as an edge.

    Returns:
        uint8 [H, W, 3], every pixel 0 or 255 in all channels.
    """
    smooth = cv2.GaussianBlur(frame, (0, 0), settings.blur) if settings.blur else frame
    edges = cv2.Canny(smooth, settings.low, settings.high)
    return cv2.cvtColor(255 - edges if settings.invert else edges, cv2.COLOR_GRAY2RGB)


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="canny",
        hook_api=HOOK_API,
        summary="Canny's edges, white on black",
        makes="control",
        settings=CannySettings,
        make=_make,
    )


def _make(settings: CannySettings, canvas: Canvas) -> EachFrame:
    return EachFrame(lambda frame: canny(frame, settings))
