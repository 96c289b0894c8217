"""Optical flow from each frame to the next, in the colour code of Middlebury.

The flow is dense inverse search (Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016), as OpenCV
has it; VACE's is RAFT, whose edges are sharper (vace/annotators/flow.py). What is drawn is the same: picture n shows
how frame n-1 becomes frame n, and picture 0 is picture 1 again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import Field, field_validator

from vace_adapt.annotators.flow_colours import flow_to_colours
from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.errors import InputError
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


class FlowSettings(AnnotatorSettings):
    """How the flow is estimated and shown.

    Attributes:
        preset: OpenCV's choice between speed and detail.
        range: the motion that is shown in full colour. ``frame`` is the largest of that picture, which is how VACE
            shows flow and the default: it is what its weights know, and what came long before does not matter. Where
            almost nothing moves, the noise is shown in full colour. ``running`` is the largest so far: it does not
            flicker, but one fast move makes all that follow pale. A number is that many pixels a frame, the same
            throughout: the choice for a camera that may stand still.
        first: what is shown for the first frame, and for the first after a pause. ``next`` is the flow to the frame
            after it, as in VACE; that needs two frames in the first call. ``still`` is no motion.
    """

    preset: Literal["ultrafast", "fast", "medium"] = "fast"
    range: Literal["frame", "running"] | Annotated[float, Field(gt=0)] = "frame"
    first: Literal["next", "still"] = "next"

    @field_validator("range", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value not in ("frame", "running") and not (number and 0 < value < float("inf")):
            raise ValueError(f"must be 'frame', 'running' or a number of pixels above 0, not {value!r}")
        return value


class Flow:
    """Remembers the last frame, and the largest motion so far."""

    def __init__(self, settings: FlowSettings) -> None:
        self._settings = settings
        self._search: Any = cv2.DISOpticalFlow.create(PRESETS[settings.preset])
        self._last: Array | None = None
        self._largest = 0.0

    def __call__(self, frames: Array, start: int) -> Array:
        twice = self._last is None and self._settings.first == "next"
        if twice and len(frames) < 2:
            raise InputError("flow to the next frame needs two frames in the first call, got 1: set first: still")
        lumas = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        pairs = list(zip([self._last, *lumas[:-1]], lumas, strict=True))
        self._last = lumas[-1]
        if not twice:
            return np.stack([self._picture(*pair) for pair in pairs])
        pictures = [self._picture(*pair) for pair in pairs[1:]]
        return np.stack([pictures[0], *pictures])

    def pause(self) -> None:
        """Nothing is known of the frame before the next; the range stays, so that the same motion looks the same."""
        self._last = None

    def _picture(self, before: Array | None, after: Array) -> Array:
        flow = np.zeros((*after.shape, 2), np.float32) if before is None else self._search.calc(before, after, None)
        largest = float(np.sqrt((flow[..., 0] ** 2 + flow[..., 1] ** 2).max()))
        self._largest = max(self._largest, largest)
        full = self._settings.range
        return flow_to_colours(flow, largest if full == "frame" else self._largest if full == "running" else full)


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="flow",
        hook_api=HOOK_API,
        summary="optical flow in colours",
        makes="control",
        settings=FlowSettings,
        make=_make,
        state="the last frame, and the largest motion so far",
        first_frames=_first_frames,
    )


def _make(settings: FlowSettings, canvas: Canvas) -> Flow:
    return Flow(settings)


def _first_frames(settings: FlowSettings) -> int:
    return 2 if settings.first == "next" else 1
