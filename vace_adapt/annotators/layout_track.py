"""The outline of a tracked object, on white.

ali-vilab/VACE vace/annotators/layout.py ``LayoutMaskAnnotator``: the outer contours of the object's mask. Where the
mask comes from is another annotator's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import cv2
import numpy as np
from pydantic import Field

from vace_adapt.annotators.find import load_annotator, make_annotator
from vace_adapt.annotators.label_colours import Colour, Label, object_colour
from vace_adapt.contract import Annotator, AnnotatorInfo, AnnotatorSettings, Canvas, Frozen
from vace_adapt.errors import InputError
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array


class MaskSource(Frozen):
    """The annotator that finds the object.

    Attributes:
        annotator: name of one that makes masks.
        options: its settings.
    """

    annotator: str
    options: dict[str, Any] = Field(default_factory=dict)


class LayoutTrackSettings(AnnotatorSettings):
    """Which object, and how it is drawn.

    Attributes:
        mask: where the object is.
        label: what it is. Gives the colour where none is named.
        colour: red, green, blue, 0..255. Without colour and label the outline is black.
        thickness: of the outline, in pixels as OpenCV counts them.
    """

    mask: MaskSource
    label: Label | None = None
    colour: Colour | None = None
    thickness: Annotated[int, Field(ge=1, le=100)] = 3


class LayoutTrack:
    """Draws the outline of what another annotator masks.

    Args:
        masks: finds the object.
        colour: red, green, blue.
        thickness: in pixels.
    """

    def __init__(self, masks: Annotator, colour: Colour, thickness: int) -> None:
        self._masks = masks
        self._colour = colour
        self._thickness = thickness

    def __call__(self, frames: Array, start: int) -> Array:
        return np.stack([outline(mask, self._colour, self._thickness) for mask in self._masks(frames, start)])

    def pause(self) -> None:
        self._masks.pause()


def outline(mask: Array, colour: Colour, thickness: int) -> Array:
    """The outer contours of a mask, on white.

    Args:
        mask: uint8 [H, W]; the object is where it is not 0.
        colour: red, green, blue, 0..255.
        thickness: of the line, in pixels.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    picture = np.full((*mask.shape, 3), 255, np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(picture, contours, -1, colour, thickness)


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="layout_track",
        hook_api=HOOK_API,
        summary="the outline of a tracked object, on white",
        makes="control",
        settings=LayoutTrackSettings,
        make=_make,
        state="that of the annotator that finds the object",
    )


def _make(settings: LayoutTrackSettings, canvas: Canvas) -> LayoutTrack:
    name = settings.mask.annotator
    if load_annotator(name).makes != "mask":
        raise InputError(f"annotator 'layout_track': mask.annotator must make masks, {name!r} makes control pictures")
    masks = make_annotator(name, settings.mask.options, canvas)
    return LayoutTrack(masks, object_colour(settings.colour, settings.label), settings.thickness)
