"""A mask from a box that follows its object, by OpenCV's correlation-filter trackers; no weights.

CSRT is Lukezic et al. 2017 (arXiv:1611.08461), KCF is Henriques et al. 2015 (arXiv:1404.7584). OpenCV's other tracker
without weights, MIL, draws random numbers and never follows the same object in the same way twice: it is not offered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from vace_adapt.boxes import Box, to_pixels
from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.errors import InputError
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

    Rectangle = tuple[int, int, int, int]

SMALLEST = 4
"""Pixels of a box's side with which the trackers still find something."""


class MaskTrackSettings(AnnotatorSettings):
    """What is followed, and how.

    Attributes:
        box: left, top, right, bottom as fractions of width and height: the object in the first frame that is given.
        tracker: ``csrt`` follows its size too and is hard to shake off; ``kcf`` keeps its size and is usually several
            times faster.
        lost: where the object is not found, ``hold`` its last box, or make an ``empty`` mask, which keeps the frame.
    """

    box: Box
    tracker: Literal["csrt", "kcf"] = "csrt"
    lost: Literal["hold", "empty"] = "hold"


class MaskTrack:
    """Generate inside the box of the followed object, keep the rest.

    Args:
        settings: what is followed.
        rectangle: left, top, right, bottom of the object in the first frame, in pixels.
    """

    def __init__(self, settings: MaskTrackSettings, rectangle: Rectangle) -> None:
        self._settings = settings
        self._rectangle = rectangle
        self._tracker: Any = None
        self._failed = False

    def __call__(self, frames: Array, start: int) -> Array:
        masks = np.zeros(frames.shape[:3], np.uint8)
        for frame, mask in zip(frames, masks, strict=True):
            found = self._found(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            self._rectangle = found or self._rectangle
            if found or self._settings.lost == "hold":
                left, top, right, bottom = self._rectangle
                mask[top:bottom, left:right] = 255
        return masks

    def pause(self) -> None:
        """The object is looked for where it was last seen."""

    def _found(self, frame: Array) -> Rectangle | None:
        """Where the object is, cut at the frame's edge; None where it is not."""
        if self._tracker is None:
            self._tracker = _started(self._settings.tracker, frame, self._rectangle)
            return self._rectangle
        if self._failed:
            return None
        try:
            found, (left, top, width, height) = self._tracker.update(frame)
        except cv2.error:  # its window has become too small to be looked into: nothing can be found any more
            self._failed = True
            return None
        right, bottom = min(left + width, frame.shape[1]), min(top + height, frame.shape[0])
        left, top = max(left, 0), max(top, 0)
        return (left, top, right, bottom) if found and left < right and top < bottom else None


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="mask_track",
        hook_api=HOOK_API,
        summary="the box of an object that is followed from the first frame on, to be generated; without weights",
        makes="mask",
        settings=MaskTrackSettings,
        make=_make,
        state="the tracker and the last box",
    )


def _make(settings: MaskTrackSettings, canvas: Canvas) -> MaskTrack:
    left, top, right, bottom = to_pixels(settings.box, canvas.height, canvas.width)
    if min(right - left, bottom - top) < SMALLEST:
        raise InputError(
            f"box {list(settings.box)} is {bottom - top}x{right - left} pixels (height x width) of a "
            f"{canvas.height}x{canvas.width} frame: a tracker needs sides of at least {SMALLEST}"
        )
    return MaskTrack(settings, (left, top, right, bottom))


def _started(tracker: str, frame: Array, rectangle: Rectangle) -> Any:
    """A tracker that has seen the object.

    Raises:
        InputError: it cannot be started on such a box.
    """
    left, top, right, bottom = rectangle
    made: Any = cv2.TrackerCSRT.create() if tracker == "csrt" else cv2.TrackerKCF.create()
    try:
        made.init(frame, (left, top, right - left, bottom - top))
        if tracker == "kcf":
            made.update(frame)  # OpenCV's KCF learns from the first frame it is updated with, not from this one
    except cv2.error:
        raise InputError(
            f"tracker {tracker} cannot follow a box of {bottom - top}x{right - left} pixels (height x width): it is "
            "too thin"
        ) from None
    return made
