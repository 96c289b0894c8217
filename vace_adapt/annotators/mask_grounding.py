"""What a label or a caption names: found by Grounding DINO, followed by SAM 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from vace_adapt.boxes import Box, to_pixels
from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.errors import InputError
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

WEIGHTS = "IDEA-Research/grounding-dino-tiny"
SAM2_WEIGHTS = "facebook/sam2.1-hiera-tiny"

OVERLAP = 0.5
"""Intersection over union above which two boxes are one object (ali-vilab/VACE vace/annotators/gdino.py)."""


def _name(label: str) -> str:
    if not label.strip() or "." in label:
        raise ValueError(f"must be one name without a full stop, not {label!r}; caption takes sentences")
    return label


def _sentence(caption: str) -> str:
    if not caption.strip(". \t\n"):
        raise ValueError(f"must say something, not {caption!r}")
    return caption


class GroundingSettings(AnnotatorSettings):
    """Options of ``mask_grounding``. Exactly one of `label` and `caption` is given.

    Attributes:
        label: name of the object, as ``red ball``.
        caption: a sentence; whatever in it is found best.
        threshold: score above which a box counts; VACE's is the default.
        all: every box, not only the one of the highest score. VACE takes the highest.
        every: look again at each frame whose number in the stream is a multiple of it; 0 looks once. What is found then
            replaces what was found before; where nothing is found, that goes on.
        segment: ``sam2`` follows what is in the box, ``box`` is the box itself, still until the next look.
        weights: Grounding DINO's folder or hub id.
        sam2_weights: SAM 2's folder or hub id.
        dtype: what the models compute in.
    """

    label: Annotated[str, AfterValidator(_name)] | None = None
    caption: Annotated[str, AfterValidator(_sentence)] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.25
    all: bool = False
    every: Annotated[int, Field(ge=0)] = 0
    segment: Literal["sam2", "box"] = "sam2"
    weights: Annotated[str, Field(min_length=1)] = WEIGHTS
    sam2_weights: Annotated[str, Field(min_length=1)] = SAM2_WEIGHTS
    dtype: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _one_text(self) -> GroundingSettings:
        if (self.label is None) == (self.caption is None):
            raise ValueError(f"give label or caption, not {'both' if self.label else 'none of them'}")
        return self

    @property
    def text(self) -> str:
        """The one that was given."""
        return self.label or self.caption or ""


class Segmenter(Protocol):
    """Boxes to masks; a `vace_adapt.annotators.sam2_tracker.Sam2Tracker` is one."""

    def start(self, boxes: Sequence[Box]) -> None:
        """Forget everything; `boxes` belong to the next frame."""

    def step(self, frame: Array) -> Array:
        """The mask of the next frame, bool [H, W]."""


class FilledBoxes:
    """The boxes themselves."""

    def __init__(self) -> None:
        self._boxes: Sequence[Box] = ()

    def start(self, boxes: Sequence[Box]) -> None:
        self._boxes = boxes

    def step(self, frame: Array) -> Array:
        mask = np.zeros(frame.shape[:2], bool)
        for box in self._boxes:
            left, top, right, bottom = to_pixels(box, *mask.shape)
            mask[top:bottom, left:right] = True
        return mask


class GroundedMask:
    """The mask of what is found.

    Args:
        find: a frame to the boxes in it that count, and the highest score there is.
        segmenter: makes the masks.
        settings: for the frames to look at, and for errors.
    """

    def __init__(
        self, find: Callable[[Array], tuple[list[Box], float]], segmenter: Segmenter, settings: GroundingSettings
    ) -> None:
        self._find = find
        self._segmenter = segmenter
        self._settings = settings
        self._found = False
        self._again = True

    def __call__(self, frames: Array, start: int) -> Array:
        masks = [self._mask(frame, start + i) for i, frame in enumerate(frames)]
        return np.stack(masks).astype(np.uint8) * np.uint8(255)

    def pause(self) -> None:
        """The object may be elsewhere behind a gap: the next frame is looked at."""
        self._again = True

    def _mask(self, frame: Array, number: int) -> Array:
        every = self._settings.every
        if self._again or (every and number % every == 0):
            self._look(frame, number)
        return self._segmenter.step(frame)

    def _look(self, frame: Array, number: int) -> None:
        boxes, best = self._find(frame)
        if not boxes and not self._found:
            raise InputError(
                f"annotator 'mask_grounding': {self._settings.text!r} is not in frame {number}: the best score is "
                f"{best:.2f}, threshold is {self._settings.threshold}"
            )
        if boxes:
            self._segmenter.start(boxes)
        self._found, self._again = True, False


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="mask_grounding",
        hook_api=HOOK_API,
        summary="what a label or caption names, found by Grounding DINO and followed by SAM 2",
        makes="mask",
        settings=GroundingSettings,
        make=_make,
        state="the boxes that were found, or SAM 2's memory of them",
        weights=WEIGHTS,
    )


def _make(settings: GroundingSettings, canvas: Canvas) -> GroundedMask:
    from vace_adapt.annotators.grounding_boxes import distinct, grounding_text, load_detector

    text = grounding_text(settings.text)
    detect = load_detector("mask_grounding", settings.weights, canvas, text, settings.dtype)

    def find(frame: Array) -> tuple[list[Box], float]:
        boxes, scores = detect(frame)
        counting = distinct(boxes[scores > settings.threshold], OVERLAP)
        chosen = counting if settings.all else counting[:1]
        return [tuple(box) for box in chosen.tolist()], float(scores[0])

    return GroundedMask(find, _segmenter(settings, canvas), settings)


def _segmenter(settings: GroundingSettings, canvas: Canvas) -> Any:
    if settings.segment == "box":
        return FilledBoxes()
    from vace_adapt.annotators.sam2_tracker import load_tracker

    return load_tracker("mask_grounding", settings.sam2_weights, canvas, settings.dtype, setting="sam2_weights")
