"""A line drawing by extended differences of Gaussians: dark lines on white, as VACE's scribble.

Winnemoeller, Kyprianidis and Olsen, XDoG: An eXtended Difference-of-Gaussians Compendium including Advanced Image
Stylization (Computers & Graphics 2012). VACE draws with the network of Chan et al., Learning to Generate Line Drawings
that Convey Geometry and Semantics (CVPR 2022; vace/annotators/scribble.py): its lines are smoother, and it leaves out
what does not matter. These follow contrast alone, and need no weights.
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


class ScribbleSettings(AnnotatorSettings):
    """How the lines are drawn. D is the luma (0..1) under the narrow Gaussian less `tau` times that under the wide one.

    Attributes:
        sigma: standard deviation in pixels of the narrow Gaussian: the lines are about as wide.
        k: how many times wider the wide Gaussian is.
        tau: weight of the wide Gaussian. At 1 even regions stay white however dark they are; below it bright regions
            need more contrast for a line.
        epsilon: D from which on the paper is white; the further below 0, the more noise and weak contrast is left out.
        phi: how steeply the ink darkens below `epsilon`; large values make it black or white.
    """

    sigma: Annotated[float, Field(ge=0.3, le=10)] = 1.4
    k: Annotated[float, Field(ge=1.1, le=10)] = 1.6
    tau: Annotated[float, Field(ge=0, le=1)] = 1.0
    epsilon: Annotated[float, Field(ge=-1, le=1)] = -0.005
    phi: Annotated[float, Field(gt=0, le=10000)] = 60.0


def scribble(frame: Array, settings: ScribbleSettings) -> Array:
    """A frame as a line drawing.

    Args:
        frame: uint8 [H, W, 3] RGB.
        settings: how the lines are drawn.

    Returns:
        uint8 [H, W, 3], three equal channels, 255 = paper.
    """
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    narrow = cv2.GaussianBlur(luma, (0, 0), settings.sigma)
    wide = cv2.GaussianBlur(luma, (0, 0), settings.k * settings.sigma)
    below = np.minimum(narrow - settings.tau * wide - settings.epsilon, 0)
    drawing = np.rint(255 * (1 + np.tanh(settings.phi * below))).astype(np.uint8)
    return cv2.cvtColor(drawing, cv2.COLOR_GRAY2RGB)


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="scribble",
        hook_api=HOOK_API,
        summary="a line drawing, dark on white",
        makes="control",
        settings=ScribbleSettings,
        make=_make,
    )


def _make(settings: ScribbleSettings, canvas: Canvas) -> EachFrame:
    return EachFrame(lambda frame: scribble(frame, settings))
