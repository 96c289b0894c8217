"""How far what was to be kept was kept. Masks are bool [T, H, W], True where the video was to be kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vace_adapt.errors import InputError

Array = np.ndarray[Any, Any]

LARGEST_PSNR = 100.0
"""Of equal pictures, for which it would be infinite."""


def psnr(made: Array, source: Array, kept: Array) -> float:
    """Peak signal to noise ratio in dB over the kept pixels of all frames, higher is better, at most 100; NaN where
    nothing is kept.
    """
    if not kept.any():
        return math.nan
    error = ((made[kept].astype(np.float64) - source[kept]) ** 2).mean()
    return min(LARGEST_PSNR, float(10 * np.log10(255**2 / error))) if error else LARGEST_PSNR


def ssim(made: Array, source: Array, kept: Array) -> float:
    """Structural similarity, up to 1, higher is better: the mean over the kept pixels of all frames; NaN where nothing
    is kept.

    Wang et al., Image Quality Assessment (IEEE TIP 2004), as scikit-image has it: Gaussian window, sigma 1.5.

    Raises:
        InputError: scikit-image is not installed.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        raise InputError("SSIM needs scikit-image: pip install 'vace-adapt[metrics]'") from None
    if not kept.any():
        return math.nan
    options: Any = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    options |= {"data_range": 255, "channel_axis": -1}
    maps = [structural_similarity(a, b, **options)[1].mean(axis=-1) for a, b in zip(made, source, strict=True)]
    return float(np.stack(maps)[kept].mean())
