"""How far a video follows its control: the control is extracted from the video again, and the two are compared.

Masks are bool [T, H, W], True where it counts; None counts everywhere. Every function gives NaN where nothing counts.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from vace_adapt.annotators.canny import CannySettings, canny
from vace_adapt.annotators.flow import PRESETS
from vace_adapt.annotators.mask_track import MaskTrackSettings
from vace_adapt.annotators.mask_track import vace_annotator as mask_track
from vace_adapt.boxes import Box
from vace_adapt.contract import Canvas

Array = np.ndarray[Any, Any]


def edge_f1(made: Array, wanted: Array, where: Array | None = None, tolerance: int = 1) -> float:
    """F1 of edge pixels, 0..1, higher is better.

    A pixel is found if the other map has an edge at most `tolerance` pixels away, along both axes. Martin et al.,
    Learning to Detect Natural Image Boundaries (PAMI 2004), with dilation in place of the one-to-one matching.

    Args:
        made, wanted: bool [T, H, W].
        where: which pixels of both count.
        tolerance: pixels.
    """
    counted = np.ones(made.shape, bool) if where is None else where
    made, wanted = made & counted, wanted & counted
    if not made.any() and not wanted.any():
        return math.nan
    precision = (made & _grown(wanted, tolerance)).sum() / max(1, made.sum())
    recall = (wanted & _grown(made, tolerance)).sum() / max(1, wanted.sum())
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def outlines(frames: Array) -> Array:
    """Canny's edges of a smoothed video, bool [T, H, W]: what a depth map, a skeleton or a box has of a picture."""
    settings = CannySettings(low=50, high=150, blur=1.0)
    return np.stack([canny(frame, settings)[..., 0] > 0 for frame in frames])


def gray_correlation(made: Array, wanted: Array, where: Array | None = None) -> float:
    """Pearson's correlation of the luma of ITU-R BT.601, -1..1, higher is better; all frames together.

    Of depth maps, which are gray, it is the correlation of inverse depth.
    """
    pair = [np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video]) for video in (made, wanted)]
    counted = np.ones(made.shape[:3], bool) if where is None else where
    x, y = (video[counted].astype(np.float64) for video in pair)
    if not len(x):
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    scale = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / scale) if scale else math.nan


def flow_error(made: Array, wanted: Array, where: Array | None = None) -> float:
    """Mean end-point error of the optical flow from each frame to the next, in pixels a frame, lower is better.

    Baker et al., A Database and Evaluation Methodology for Optical Flow (IJCV 2011); both flows are dense inverse
    search, as the annotator ``flow`` has it.
    """
    if len(made) < 2:
        return math.nan
    error = np.linalg.norm(optical_flow(made) - optical_flow(wanted), axis=-1)
    return _mean(error if where is None else error[where[:-1]])


def mask_iou(made: Array, wanted: Array) -> float:
    """Intersection over union of two masks bool [T, H, W], 0..1, higher is better (Jaccard 1901)."""
    union = (made | wanted).sum()
    return float((made & wanted).sum() / union) if union else math.nan


def changed(made: Array, source: Array, levels: int = 32) -> Array:
    """Where a video differs from its source by more than `levels` in any channel, bool [T, H, W].

    Its `mask_iou` with the mask of an inpainting says whether what was to be made anew was, and the rest was not.
    """
    difference = np.abs(made.astype(np.int16) - source.astype(np.int16)).max(axis=-1)
    return difference > levels


def box_iou(made: Array, wanted: Array) -> float:
    """Mean over frames of the intersection over union of boxes [T, 4] (left, top, right, bottom), 0..1, higher is
    better; an empty box meets nothing.
    """
    inner = np.minimum(made[:, 2:], wanted[:, 2:]) - np.maximum(made[:, :2], wanted[:, :2])
    shared = np.clip(inner, 0, None).prod(axis=1)
    areas = sum(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (made, wanted))
    return float((shared / np.maximum(areas - shared, 1e-9)).mean())


def tracked_boxes(frames: Array, first: Box) -> Array:
    """Boxes in pixels [T, 4] of what stands in a box of the first frame, followed by the annotator ``mask_track``."""
    canvas = Canvas(frames.shape[1], frames.shape[2])
    masks = mask_track().make(MaskTrackSettings(box=first, lost="empty"), canvas)(frames, 0)
    found = np.zeros((len(masks), 4))
    for box, mask in zip(found, masks, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            box[:] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return found


def optical_flow(frames: Array) -> Array:
    """Flow from each frame to the next in pixels, float32 [T-1, H, W, 2] (Kroeger et al., ECCV 2016)."""
    search: Any = cv2.DISOpticalFlow.create(PRESETS["medium"])
    lumas = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    return np.stack([search.calc(before, after, None) for before, after in pairwise(lumas)])


def _grown(edges: Array, tolerance: int) -> Array:
    kernel = np.ones((2 * tolerance + 1, 2 * tolerance + 1), np.uint8)
    return np.stack([cv2.dilate(frame.astype(np.uint8), kernel) > 0 for frame in edges])


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else math.nan
