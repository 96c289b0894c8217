"""One person as a skeleton, with hands and face, by MediaPipe; its models are inside its wheel.

Bazarevsky et al., BlazePose: On-device Real-time Body Pose Tracking (2020), in MediaPipe's Holistic solution. The last
wheel that has it is mediapipe 0.10.21, for Python up to 3.12. It asks for opencv-contrib-python, whose files would
replace those of opencv-contrib-python-headless, so it is installed with ``--no-deps``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from vace_adapt.annotators.each_frame import EachFrame
from vace_adapt.annotators.keypoints import HAND_POINTS, Person, from_coco, without_strays
from vace_adapt.annotators.skeleton import SkeletonSettings, people_picture
from vace_adapt.contract import AnnotatorInfo, Canvas
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

INSTALL = "pip install --no-deps mediapipe==0.10.21"

COCO = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
"""Which of MediaPipe's 33 body landmarks are the 17 of COCO."""

# fmt: off
FACE = [
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw, from the right ear on
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips
]
# fmt: on
"""Which of the 468 points of MediaPipe's face mesh are the 68 of iBUG 300-W."""


class PoseMediapipeSettings(SkeletonSettings):
    """Options of ``pose_mediapipe``.

    Attributes:
        hands: draw hands. VACE's pose control has none.
        face: draw the face.
        detection_threshold: score above which there is a person.
    """

    hands: bool = False
    face: bool = True
    detection_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5


def holistic_person(found: Any, *, hands: bool, face: bool) -> Person | None:
    """What Holistic found in a frame.

    Args:
        found: with ``pose_landmarks``, ``left_hand_landmarks``, ``right_hand_landmarks`` and ``face_landmarks``, each
            None or with a list ``landmark`` of x and y as fractions; those of the pose have a ``visibility``, 0..1.
        hands, face: which parts are wanted.

    Returns:
        The person; None without a body.
    """
    if found.pose_landmarks is None:
        return None
    body = [(point.x, point.y, point.visibility) for point in found.pose_landmarks.landmark]
    sides = [_part(found.left_hand_landmarks), _part(found.right_hand_landmarks)]
    mesh = _part(found.face_landmarks)
    no_hand = np.zeros((HAND_POINTS, 3))
    return Person(
        from_coco(without_strays(np.array(body)[COCO])),
        np.stack([no_hand if side is None else side for side in sides]) if hands else None,
        mesh[FACE] if face and mesh is not None else None,
    )


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="pose_mediapipe",
        hook_api=HOOK_API,
        summary="the skeleton of one person by MediaPipe, with face and hands, on black",
        makes="control",
        settings=PoseMediapipeSettings,
        make=_make,
        extra="mediapipe",
    )


def _make(settings: PoseMediapipeSettings, canvas: Canvas) -> EachFrame:
    holistic = _holistic(settings.detection_threshold)

    def picture(frame: Array) -> Array:
        person = holistic_person(holistic.process(frame), hands=settings.hands, face=settings.face)
        return people_picture([] if person is None else [person], canvas.height, canvas.width, settings)

    return EachFrame(picture)


def _holistic(threshold: float) -> Any:
    """Every frame by itself: tracking would make a frame depend on those before it."""
    try:
        from mediapipe.python.solutions.holistic import Holistic
    except ImportError as error:
        raise ImportError(f"and {INSTALL}: {error}") from error
    return Holistic(static_image_mode=True, model_complexity=1, min_detection_confidence=threshold)


def _part(landmarks: Any) -> Array | None:
    """Landmarks of a hand or face, which have no score: float64 [N, 3] with score 1."""
    if landmarks is None:
        return None
    return without_strays(np.array([(point.x, point.y, 1.0) for point in landmarks.landmark]))
