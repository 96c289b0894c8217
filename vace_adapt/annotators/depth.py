"""Depth Anything V2: near is white, far is black."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

WEIGHTS = "depth-anything/Depth-Anything-V2-Small-hf"
TYPES = ("depth_anything", "dpt")
"""Models that predict relative inverse depth; ``dpt`` is MiDaS, as ``Intel/dpt-hybrid-midas``."""


class DepthSettings(AnnotatorSettings):
    """Options of ``depth``.

    Attributes:
        weights: folder or hub id. VACE's ``depthv2`` has ``depth-anything/Depth-Anything-V2-Large-hf``, its ``depth``
            ``Intel/dpt-hybrid-midas``.
        range: which depths are black and white. ``frame``: the farthest and nearest of each frame, VACE's rule
            (ali-vilab/VACE vace/annotators/depth.py); one pixel that moves changes every gray level, so it flickers.
            ``running``: these two smoothed over the stream.
        rate: of ``running``, the weight of the newest frame in the smoothed range. 0.05 follows within some 20 frames;
            1 is ``frame``. Depths beyond the range are black or white.
        size: the side of what the model sees, in pixels; None is what its weights name (518). Depth Anything keeps the
            aspect: it is the shorter side there.
        dtype: what the model computes in.
    """

    weights: Annotated[str, Field(min_length=1)] = WEIGHTS
    range: Literal["running", "frame"] = "running"
    rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    size: Annotated[int, Field(ge=32)] | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"


class Depth:
    """Gray pictures of inverse depth.

    Args:
        estimate: uint8 [H, W, 3] to float32 [H, W], larger is nearer.
        rate: weight of the newest frame in the range; 1 takes each frame's own.
    """

    def __init__(self, estimate: Callable[[Array], Array], rate: float) -> None:
        self._estimate = estimate
        self._rate = np.float32(rate)
        self._range: Array | None = None

    def __call__(self, frames: Array, start: int) -> Array:
        return np.stack([self._picture(frame) for frame in frames])

    def pause(self) -> None:
        """The range stays, so a gap does not jump; the frames behind it move it on."""

    def _picture(self, frame: Array) -> Array:
        depth = self._estimate(frame)
        own = np.array([depth.min(), depth.max()], np.float32)
        self._range = own if self._range is None else (1 - self._rate) * self._range + self._rate * own
        return np.repeat(gray_levels(depth, *self._range)[..., None], 3, axis=2)


def gray_levels(depth: Array, far: np.float32, near: np.float32) -> Array:
    """Inverse depth as gray, 0 = far, 255 = near, rounded down. All black where there is no range.

    Args:
        depth: float32 [H, W].
        far, near: what becomes 0 and 255; values beyond are clipped.

    Returns:
        uint8 [H, W].
    """
    if not near > far:
        return np.zeros(depth.shape, np.uint8)
    return ((depth - far) / (near - far) * 255).clip(0, 255).astype(np.uint8)


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="depth",
        hook_api=HOOK_API,
        summary="depth by Depth Anything V2, near is white",
        makes="control",
        settings=DepthSettings,
        make=_make,
        state="the smoothed range of depths",
        weights=WEIGHTS,
    )


def _make(settings: DepthSettings, canvas: Canvas) -> Depth:
    return Depth(_estimator(settings, canvas), 1 if settings.range == "frame" else settings.rate)


def _estimator(settings: DepthSettings, canvas: Canvas) -> Callable[[Array], Array]:
    import torch
    from transformers import AutoModelForDepthEstimation, DPTImageProcessorPil

    from vace_adapt.annotators.hub import load_model, load_part, weights_folder
    from vace_adapt.errors import CheckpointError

    folder = weights_folder("depth", settings.weights, download=canvas.download)
    model = load_model("depth", folder, AutoModelForDepthEstimation, TYPES, canvas.device, settings.dtype)
    if getattr(model.config, "depth_estimation_type", "relative") == "metric":
        raise CheckpointError(f"annotator 'depth': {folder} predicts metres, expected a model of relative depth")
    processor = load_part("depth", folder, DPTImageProcessorPil)
    size: dict[str, Any] = {} if settings.size is None else {"size": {"height": settings.size, "width": settings.size}}

    @torch.inference_mode()
    def estimate(frame: Array) -> Array:
        pixels = processor(images=frame, return_tensors="pt", **size).pixel_values
        outputs = model(pixels.to(canvas.device, model.dtype))
        outputs.predicted_depth = outputs.predicted_depth.float()
        found = processor.post_process_depth_estimation(outputs, target_sizes=[frame.shape[:2]])
        return np.asarray(found[0]["predicted_depth"].cpu().numpy())

    return estimate
