"""Soft edges: the steeper the brightness, the whiter.

The gradient magnitude of the smoothed luma, by Scharr's derivatives. It is measured against the steepest place of a
straight edge between two even grays, so it depends neither on the smoothing nor on what else is in the frame. VACE was
not trained with it: its only line control is scribble, dark lines on white. ``invert`` comes nearer to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import cv2
import numpy as np
from pydantic import Field

from vace_adapt.annotators.each_frame import EachFrame
from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array


class SoftedgeSettings(AnnotatorSettings):
    """How soft, and how strong.

    Attributes:
        sigma: standard deviation in pixels of the Gaussian that smooths the luma; the edges are about twice as wide.
        contrast: gray levels between the two sides of a straight edge that is just white; weaker edges are darker in
            proportion.
        invert: dark edges on white instead of white edges on black.
    """

    sigma: Annotated[float, Field(ge=0.3, le=20)] = 1.5
    contrast: Annotated[float, Field(ge=1, le=255)] = 80.0
    invert: bool = False


def softedge(frame: Array, settings: SoftedgeSettings) -> Array:
    """The soft edges of a frame.

    Args:
        frame: uint8 [H, W, 3] RGB.
        settings: how soft, and how strong.

    Returns:
        uint8 [H, W, 3], three equal channels.
    """
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    full = settings.contrast * _steepest(settings.sigma)
    edges = np.rint(255 * np.minimum(_steepness(luma, settings.sigma) / full, 1)).astype(np.uint8)
    return cv2.cvtColor(255 - edges if settings.invert else edges, cv2.COLOR_GRAY2RGB)


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="softedge",
        hook_api=HOOK_API,
        summary="soft edges, white on black",
        makes="control",
        settings=SoftedgeSettings,
        make=_make,
    )


def _make(settings: SoftedgeSettings, canvas: Canvas) -> EachFrame:
    return EachFrame(lambda frame: softedge(frame, settings))


def _steepness(luma: Array, sigma: float) -> Array:
    """Gradient magnitude of float32 [H, W], smoothed."""
    smooth = cv2.GaussianBlur(luma, (0, 0), sigma)
    return cv2.magnitude(cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1))


def _steepest(sigma: float) -> float:
    """The largest gradient magnitude of an edge between 0 and 1."""
    half = int(8 * sigma) + 2
    edge = np.repeat(np.array([[0, 1]], np.float32), half, axis=1)
    return float(_steepness(np.repeat(edge, 3, axis=0), sigma).max())
