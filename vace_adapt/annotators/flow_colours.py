"""The colour code of optical flow: direction is hue, length is saturation.

Baker et al., A Database and Evaluation Methodology for Optical Flow (ICCV 2007), the code of the Middlebury benchmark;
RAFT's ``flow_to_image``, which VACE's flow control is drawn with, is the same code with the lengths divided by the
largest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

CORNERS = ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255), (255, 0, 0))
"""Red, yellow, green, cyan, blue, magenta, and red again."""

STEPS = (15, 6, 4, 11, 13, 6)
"""Colours from each corner to the next: more where the eye tells more of them apart."""

ROUNDING = 1e-5
"""Pixels added to the length that is shown as full colour, so that no flow at all is white."""

BAND = 32
"""Rows that are coloured at once: few enough to stay in the processor's cache."""


def colour_wheel() -> Array:
    """The colours around the circle, from motion to the right over down, left and up, as y points down.

    Returns:
        int64 [55, 3] RGB, 0..255, the fully saturated ones.
    """
    corners = np.array(CORNERS)
    ramps = zip(corners[:-1], corners[1:], STEPS, strict=True)
    return np.concatenate([a + np.sign(b - a) * (255 * np.arange(n) // n)[:, None] for a, b, n in ramps])


def flow_to_colours(flow: Array, full: float) -> Array:
    """Flow in the colour code.

    Args:
        flow: float32 [H, W, 2], pixels to the right and down.
        full: length in pixels that is shown in full colour; shorter is paler, no motion is white, longer is darker.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    scaled = flow / np.float32(full + ROUNDING)
    return np.concatenate([_band(scaled[top : top + BAND]) for top in range(0, len(scaled), BAND)])


def _band(scaled: Array) -> Array:
    """The colours of flow whose length 1 is full colour."""
    right, down = np.moveaxis(scaled, -1, 0)
    length = np.sqrt(right**2 + down**2)
    beyond = length > 1
    wheel = colour_wheel() / 255
    place = (np.arctan2(-down, -right) / np.float32(np.pi) + 1) / 2 * (len(wheel) - 1)
    before = np.floor(place).astype(np.intp)
    share = place - before
    picture = np.empty((*length.shape, 3), np.uint8)
    for channel, levels in enumerate(wheel.T):
        hue = (1 - share) * levels.take(before) + share * np.roll(levels, -1).take(before)
        shade = 1 - length * (1 - hue)
        shade[beyond] = 0.75 * hue[beyond]
        picture[..., channel] = np.floor(255 * shade)
    return picture
