"""How a video looks: likeness to the references, colours over time, sharpness."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]

Features = Callable[[Sequence[Array]], Array]
"""Pictures, uint8 [H, W, 3] of any size, to float32 [N, D] of length 1 (`vace_adapt.metrics.features`)."""

EVERY = 4
"""Frames from one that a network looks at to the next."""

BINS = 8
"""Of each channel of a colour histogram."""


def colour_similarity(made: Array, reference: Array, where: Array | None = None) -> float:
    """Intersection of the colour histograms of a video and a reference, 0..1, higher is better.

    Swain and Ballard, Color Indexing (IJCV 1991): the share of the video's pixels that a reference of the same size
    would have, too. Histograms have 8 bins in each of R, G and B. White of the reference is its background and does
    not count. Shape, texture and place do not matter.

    Args:
        made: uint8 [T, H, W, 3].
        reference: uint8 [h, w, 3].
        where: bool [T, H, W], which pixels of the video count; None is all of them.
    """
    subject = reference[(reference < 250).any(axis=-1)]
    pixels = made.reshape(-1, 3) if where is None else made[where]
    if not len(subject) or not len(pixels):
        return math.nan
    return float(np.minimum(_histogram(pixels), _histogram(subject)).sum())


def reference_similarity(features: Features, frames: Array, references: Sequence[Array]) -> float:
    """Mean cosine of every 4th frame with every reference, -1..1, higher is better.

    Ruiz et al., DreamBooth (CVPR 2023), section 4.2: its "DINO" and "CLIP-I".

    Args:
        features: of a network.
        frames: uint8 [T, H, W, 3].
        references: uint8 [h, w, 3] each.
    """
    return float((features(list(frames[::EVERY])) @ features(references).T).mean())


def colour_drift(frames: Array, first: Array) -> float:
    """Distance of the mean colours of two parts of a video in CIE L*a*b* (CIE76 delta E), lower is better; 2.3 is just
    noticeable (Mahy et al. 1994).
    """
    here, there = (_lab(part).mean(axis=(0, 1, 2)) for part in (frames, first))
    return float(np.linalg.norm(here - there))


def contrast_drift(frames: Array, first: Array) -> float:
    """Standard deviation of the lightness of one part of a video over that of another: 1 is no drift, less is paler."""
    here, there = (float(_lab(part)[..., 0].std()) for part in (frames, first))
    return here / there if there else math.nan


def sharpness(frames: Array) -> float:
    """Variance of the Laplacian of the luma, in gray levels squared, the mean over frames; higher is sharper, or
    noisier. Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy (ICPR 2000). The prompt does not matter.
    """
    lumas = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
    return float(np.mean([cv2.Laplacian(luma, cv2.CV_64F).var() for luma in lumas]))


def _histogram(pixels: Array) -> Array:
    """Shares of [N, 3] pixels by colour bin."""
    bins = pixels.astype(np.int64) * BINS // 256
    counts = np.bincount(bins @ np.array([BINS * BINS, BINS, 1]), minlength=BINS**3)
    return counts / len(pixels)


def _lab(frames: Array) -> Array:
    return np.stack([cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for frame in frames])
