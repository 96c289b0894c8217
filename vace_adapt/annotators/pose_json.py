"""People whose keypoints were made elsewhere, drawn as VACE draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from vace_adapt.annotators.keypoint_files import read_people
from vace_adapt.annotators.keypoints import Person
from vace_adapt.annotators.skeleton import SkeletonSettings, people_picture
from vace_adapt.contract import AnnotatorInfo, Canvas
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

Side = Annotated[float, Field(ge=1)]


class PoseJsonSettings(SkeletonSettings):
    """Options of ``pose_json``.

    Attributes:
        path: a file or folder of OpenPose, ControlNet or COCO keypoints (`vace_adapt.annotators.keypoint_files`). Frame
            n of the stream shows frame n of it; frames it does not have, and those after its end, show nobody.
        size: height and width of what the keypoints were made from, in place of what the file says; [1, 1] where they
            are fractions. None is what the file says. It is scaled to the stream's size, whatever its aspect.
        hands: draw hands. VACE's pose control has none.
        face: draw faces.
    """

    path: Path
    size: tuple[Side, Side] | None = None
    hands: bool = False
    face: bool = True


class PoseJson:
    """Draws the people of each frame.

    Args:
        people: frame number to people.
        canvas: for the size of the pictures.
        settings: how they are drawn.
    """

    def __init__(self, people: Mapping[int, list[Person]], canvas: Canvas, settings: PoseJsonSettings) -> None:
        self._people = people
        self._size = canvas.height, canvas.width
        self._settings = settings

    def __call__(self, frames: Array, start: int) -> Array:
        return np.stack([self._picture(start + i) for i in range(len(frames))])

    def pause(self) -> None:
        """It goes by frame numbers only."""

    def _picture(self, number: int) -> Array:
        return people_picture(self._people.get(number, []), *self._size, self._settings)


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="pose_json",
        hook_api=HOOK_API,
        summary="skeletons of the people in a keypoint file, on black",
        makes="control",
        settings=PoseJsonSettings,
        make=_make,
        reads="nothing",
    )


def _make(settings: PoseJsonSettings, canvas: Canvas) -> PoseJson:
    people = {
        number: [_wanted(person, settings) for person in found]
        for number, found in read_people(settings.path, settings.size).items()
    }
    return PoseJson(people, canvas, settings)


def _wanted(person: Person, settings: PoseJsonSettings) -> Person:
    """A person without the parts that are not drawn."""
    return replace(person, hands=person.hands if settings.hands else None, face=person.face if settings.face else None)
