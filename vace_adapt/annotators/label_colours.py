"""The colour a labelled object is drawn in.

VACE looks labels up in a list of its hub repository, made for the tags of the Recognize Anything Model; it cannot be
shipped here. Who has it gives ``colour``.
"""

from __future__ import annotations

import colorsys
import hashlib
from typing import Annotated

from pydantic import Field

Level = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Level, Level, Level]
"""Red, green, blue, 0..255."""

Label = Annotated[str, Field(min_length=1)]

BLACK = (0, 0, 0)
BRIGHTNESS = 0.8
"""So that yellow is seen on white."""


def object_colour(colour: Colour | None, label: str | None) -> Colour:
    """The given colour, or the one of the label, or black as in VACE."""
    if colour is not None:
        return colour
    return BLACK if label is None else label_colour(label)


def label_colour(label: str) -> Colour:
    """A saturated colour that depends on the text alone."""
    digest = hashlib.sha256(label.encode()).digest()
    hue = int.from_bytes(digest[:4], "big") / 2**32
    red, green, blue = (round(255 * level) for level in colorsys.hsv_to_rgb(hue, 1.0, BRIGHTNESS))
    return red, green, blue
