"""Render the clip that ships with the package: ``python recipes/embedded/clip.py``.

A scene of the embedded world in files as a user would have them, in ``vace_adapt/embedded/clip``: ``video.mp4`` is the
scene, ``depth.mp4`` its depth, ``mask.mp4`` the surroundings of its nearest thing, ``control.mp4`` the video as VACE
composes inpainting with depth (the mask's inside replaced by depth), ``reference.png`` another thing of the same kind,
``first.png`` and ``last.png`` the video's ends. ``pose.mp4`` is the skeleton of another scene, in which a puppet walks.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vace_adapt.embedded.world.controls import CONTROLS
from vace_adapt.embedded.world.render import boxes, reference, render
from vace_adapt.embedded.world.scene import RATE, SIZE, draw_scene
from vace_adapt.video.write import VideoWriter

Array = np.ndarray[Any, Any]

SEED, FRAMES, QUALITY = 62, 45, 8
MARGIN = 4
FOLDER = Path(__file__).parents[2] / "vace_adapt" / "embedded" / "clip"


def main() -> None:
    """Write the files."""
    clip = render(draw_scene(SEED, FRAMES))
    mask = np.zeros(clip.frames.shape[:3], np.uint8)
    for frame, (left, top, right, bottom) in zip(mask, boxes(clip.masks[-1]).astype(int), strict=True):
        frame[max(0, top - MARGIN) : bottom + MARGIN, max(0, left - MARGIN) : right + MARGIN] = 255
    depth = CONTROLS["depth"](clip)
    walking = render(draw_scene(SEED, FRAMES, things=1, puppet=True))
    videos = {
        "video": clip.frames,
        "depth": depth,
        "mask": np.repeat(mask[..., None], 3, axis=-1),
        "pose": CONTROLS["pose"](walking),
        "control": np.where(mask[..., None] > 0, depth, clip.frames),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, frames in videos.items():
        writer = VideoWriter(FOLDER / f"{name}.mp4", SIZE, SIZE, Fraction(RATE), QUALITY)
        for frame in frames:
            writer.write(frame[None])
        writer.close()
    thing = dataclasses.replace(clip.scene.things[-1], colour="orange", second="cyan", texture="striped")
    Image.fromarray(reference(thing)).save(FOLDER / "reference.png")
    Image.fromarray(clip.frames[0]).save(FOLDER / "first.png")
    Image.fromarray(clip.frames[-1]).save(FOLDER / "last.png")


if __name__ == "__main__":
    main()
