"""An object shown in the first frame, followed by SAM 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from vace_adapt.boxes import Box, Fraction
from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.errors import InputError
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

WEIGHTS = "facebook/sam2.1-hiera-tiny"


class Sam2Settings(AnnotatorSettings):
    """Options of ``mask_sam2``. The object is shown in exactly one way, in the first frame.

    Attributes:
        point: a click on it, [x, y] as fractions of width and height.
        box: around it, [left, top, right, bottom] as fractions.
        mask: path of an image of the video's size, light where it is.
        weights: folder or hub id. VACE has ``facebook/sam2.1-hiera-large``.
        dtype: what the model computes in.
    """

    point: tuple[Fraction, Fraction] | None = None
    box: Box | None = None
    mask: Path | None = None
    weights: Annotated[str, Field(min_length=1)] = WEIGHTS
    dtype: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _one_prompt(self) -> Sam2Settings:
        given = [name for name in ("point", "box", "mask") if getattr(self, name) is not None]
        if len(given) != 1:
            came = " and ".join(given) or "none of them"
            raise ValueError(f"give point, box or mask, one of the three, not {came}")
        return self


class TrackedMask:
    """The masks of a tracker.

    Args:
        tracker: a `vace_adapt.annotators.sam2_tracker.Sam2Tracker` that was started.
    """

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker

    def __call__(self, frames: Array, start: int) -> Array:
        masks = [self._tracker.step(frame) for frame in frames]
        return np.stack(masks).astype(np.uint8) * np.uint8(255)

    def pause(self) -> None:
        """The memory stays: SAM 2 finds an object again that was out of sight."""


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="mask_sam2",
        hook_api=HOOK_API,
        summary="an object that is clicked, boxed or masked in the first frame, followed by SAM 2",
        makes="mask",
        settings=Sam2Settings,
        make=_make,
        state="SAM 2's memory of the first frame and of the newest 15",
        weights=WEIGHTS,
    )


def _make(settings: Sam2Settings, canvas: Canvas) -> TrackedMask:
    prompt = settings.point or settings.box or _read(settings.mask, canvas)
    from vace_adapt.annotators.sam2_tracker import load_tracker

    tracker = load_tracker("mask_sam2", settings.weights, canvas, settings.dtype)
    tracker.start([prompt])
    return TrackedMask(tracker)


def _read(path: Path | None, canvas: Canvas) -> Array:
    """A mask image as bool [H, W], True from half brightness on."""
    from vace_adapt.images import load_image

    assert path is not None
    what = f"annotator 'mask_sam2': mask {str(path)!r}"
    light = np.asarray(load_image(path, "annotator 'mask_sam2': mask").convert("L")) >= 128
    if light.shape != (canvas.height, canvas.width):
        came = "x".join(map(str, light.shape))
        raise InputError(f"{what} is {came} (height x width), the video {canvas.height}x{canvas.width}")
    if not light.any():
        raise InputError(f"{what} is dark all over, expected light where the object is")
    return light
