"""Scenes that are arranged by hand, where drawn ones leave too much to chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from vace_adapt.embedded.world.puppet import Gait
from vace_adapt.embedded.world.scene import Scene, Thing


def thing(
    kind: str, *, at: Any = (32, 32), by: Any = (0, 0), spin: float = 0.0, frames: int = 5, **given: Any
) -> Thing:
    """A thing whose centre starts at a place and moves by so many pixels a frame."""
    time = np.arange(frames, dtype=np.float32)
    looks = {"colour": "red", "second": "cyan", "texture": "solid", "radius": 12.0, "nearness": 0.5}
    return Thing(
        kind=kind,
        track=np.asarray(at, np.float32) + np.outer(time, by).astype(np.float32),
        turn=spin * time,
        gait=Gait(0.2, 1.0, 2.0),
        **{**looks, **given},
    )


def scene(
    *things: Thing, ground: str = "navy", pattern: str = "waves", drift: Any = (0, 0), light: float = 1.0
) -> Scene:
    """Things from back to front, and how the camera moves."""
    time = np.arange(len(things[0].track), dtype=np.float32)
    return Scene(things, ground, pattern, light, camera=np.outer(time, drift).astype(np.float32))
