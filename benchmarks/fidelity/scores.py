"""Scores of generated frames against the truth of a clip. None of them is, or shares code with, a training loss.

Frames are uint8 [T, 64, 64, 3] RGB. Things are brighter than any background (`vace_adapt.embedded.world.scene`), so the
foreground of a generated picture can be measured without a model.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vace_adapt.annotators.softedge import SoftedgeSettings, softedge
from vace_adapt.embedded.world.render import Clip, boxes
from vace_adapt.embedded.world.scene import COLOURS

if TYPE_CHECKING:
    from cases import Given

Array = np.ndarray[Any, Any]

BRIGHT = 170
"""Level of the brightest channel that only things reach."""

PALETTE = np.array(list(COLOURS.values()), np.float32) * 255


def overlap(frames: Array, clip: Clip, given: Given) -> float:
    """Intersection over union of the foreground and the true things, over all frames."""
    return _iou(_foreground(frames), clip.masks.max(axis=0) > 0.5)


def box_overlap(frames: Array, clip: Clip, given: Given) -> float:
    """Mean over frames of the intersection over union of the box around the foreground and the given box."""
    made, true = boxes(_foreground(frames).astype(np.float32)), boxes(clip.masks[0])
    inner = np.minimum(made[:, 2:], true[:, 2:]) - np.maximum(made[:, :2], true[:, :2])
    shared = np.clip(inner, 0, None).prod(axis=1)
    areas = sum((box[:, 2:] - box[:, :2]).prod(axis=1) for box in (made, true))
    return float((shared / np.maximum(areas - shared, 1)).mean())


def edges(frames: Array, clip: Clip, given: Given) -> float:
    """Correlation of the soft edges of both, all frames together."""
    made, true = (
        np.stack([softedge(frame, SoftedgeSettings())[..., 0] for frame in video]) for video in (frames, clip.frames)
    )
    return _correlation(made, true)


def luma(frames: Array, clip: Clip, given: Given) -> float:
    """Correlation of the brightness of both."""
    made, true = (
        np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video]) for video in (frames, clip.frames)
    )
    return _correlation(made, true)


def motion(frames: Array, clip: Clip, given: Given) -> float:
    """Correlation of the optical flow of both, estimated alike."""
    return _correlation(_flow(frames), _flow(clip.frames))


def kept(frames: Array, clip: Clip, given: Given) -> float:
    """Peak signal to noise ratio in dB where the mask keeps."""
    assert given.mask is not None
    return _peak(frames[given.mask == 0], clip.frames[given.mask == 0])


def made(frames: Array, clip: Clip, given: Given) -> float:
    """Share of the foreground under the mask that has one of the true thing's two colours, times how much of the
    thing's own area the foreground under the mask has (at most 1).
    """
    assert given.mask is not None
    thing = clip.scene.things[-1]
    inside = _foreground(frames) & (given.mask > 0)
    if not inside.any():
        return 0.0
    nearest = _palette(frames)[inside]
    wanted = [list(COLOURS).index(name) for name in {thing.colour, thing.second}]
    amount = min(1.0, inside.sum() / max(1, (clip.masks[-1] > 0.5).sum()))
    return float(np.isin(nearest, wanted).mean() * amount)


def anchored(frames: Array, clip: Clip, given: Given) -> float:
    """Peak signal to noise ratio in dB at the given frames."""
    pairs = [(frames[at : at + len(pictures)], pictures) for pictures, at in given.keyframes]
    return float(np.mean([_peak(*pair) for pair in pairs]))


def appearance(frames: Array, clip: Clip, given: Given) -> float:
    """How far the colours of the foreground are those of the thing: intersection of the two histograms over the
    palette, each foreground pixel counted at its nearest colour.
    """
    return float(
        np.minimum(_histogram(frames, _foreground(frames)), _histogram(clip.frames, clip.masks[0] > 0.5)).sum()
    )


def _foreground(frames: Array) -> Array:
    return frames.max(axis=-1) > BRIGHT


def _palette(frames: Array) -> Array:
    """Number of the nearest colour: [T, H, W]."""
    return ((frames[..., None, :].astype(np.float32) - PALETTE) ** 2).sum(axis=-1).argmin(axis=-1)


def _histogram(frames: Array, where: Array) -> Array:
    counts = np.bincount(_palette(frames)[where], minlength=len(PALETTE))
    return counts / max(1, counts.sum())


def _iou(a: Array, b: Array) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def _correlation(a: Array, b: Array) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-9))


def _flow(frames: Array) -> Array:
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    return np.stack([search.calc(a, b, None) for a, b in pairwise(grays)])


def _peak(a: Array, b: Array) -> float:
    error = ((a.astype(np.float64) - b) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-3)))
