"""Control pictures of a clip: by the annotators where they need nothing but the frames, from the truth elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from vace_adapt.annotators.canny import CannySettings, canny
from vace_adapt.annotators.flow_colours import flow_to_colours
from vace_adapt.annotators.gray import gray
from vace_adapt.annotators.keypoints import Person
from vace_adapt.annotators.label_colours import label_colour
from vace_adapt.annotators.scribble import ScribbleSettings, scribble
from vace_adapt.annotators.skeleton import SkeletonSettings, people_picture
from vace_adapt.annotators.softedge import SoftedgeSettings, softedge
from vace_adapt.embedded.world.render import Clip, boxes, keypoints
from vace_adapt.embedded.world.scene import PUPPET, SIZE

Array = np.ndarray[Any, Any]

SKELETON = SkeletonSettings(short_side=128)
"""At the annotator's own 1024 a limb would be half a pixel wide in frames of 64."""


def depth(clip: Clip) -> Array:
    return np.repeat(np.rint(255 * clip.depth).astype(np.uint8)[..., None], 3, axis=-1)


def flow(clip: Clip) -> Array:
    """Each picture by its own largest motion, as the annotator's default is."""
    longest = np.sqrt((clip.flow**2).sum(-1)).max(axis=(1, 2))
    return np.stack([flow_to_colours(*pair) for pair in zip(clip.flow, longest.tolist(), strict=True)])


def pose(clip: Clip) -> Array:
    """Skeletons of the puppets; black where there is none."""
    puppets = [keypoints(thing, len(clip.frames)) for thing in clip.scene.things if thing.kind == PUPPET]
    people = ([Person(body[t]) for body in puppets] for t in range(len(clip.frames)))
    return np.stack([people_picture(group, SIZE, SIZE, SKELETON) for group in people])


def layout(clip: Clip) -> Array:
    """Boxes around what is seen of each thing, in the colour of its kind, on white."""
    pictures = np.full_like(clip.frames, 255)
    for thing, track in zip(clip.scene.things, boxes(clip.masks).astype(int), strict=True):
        for picture, (left, top, right, bottom) in zip(pictures, track.tolist(), strict=True):
            if right > left:
                cv2.rectangle(picture, (left, top), (right, bottom), label_colour(thing.kind), 2)
    return pictures


def _each(annotate: Callable[[Array], Array]) -> Callable[[Clip], Array]:
    return lambda clip: np.stack([annotate(frame) for frame in clip.frames])


CONTROLS: dict[str, Callable[[Clip], Array]] = {
    "depth": depth,
    "canny": _each(lambda frame: canny(frame, CannySettings())),
    "softedge": _each(lambda frame: softedge(frame, SoftedgeSettings())),
    "scribble": _each(lambda frame: scribble(frame, ScribbleSettings())),
    "flow": flow,
    "gray": _each(gray),
    "pose": pose,
    "layout": layout,
}
"""Every structural control: a clip to its control video, uint8 [T, 64, 64, 3]."""
