"""Where the joints of people are, in the orders of OpenPose, COCO and MediaPipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

BODY_POINTS = 18
"""OpenPose's COCO body: nose, neck, right shoulder, elbow, wrist, left shoulder, elbow, wrist, right hip, knee, ankle,
left hip, knee, ankle, right eye, left eye, right ear, left ear.
"""

HAND_POINTS = 21
"""The wrist, then four joints of each finger from the thumb on, as in OpenPose, COCO-WholeBody and MediaPipe."""

FACE_POINTS = 68
"""The landmarks of iBUG 300-W: jaw, brows, nose, eyes, mouth."""


@dataclass(frozen=True)
class Person:
    """The joints of one person. A score of 0 is a point that was not found.

    Attributes:
        body: float64 [18, 3]: x, y as fractions of width and height, score; in the order of `BODY_POINTS`. Points may
            lie outside the picture.
        hands: float64 [2, 21, 3], left and right, or None.
        face: float64 [68, 3], or None.
    """

    body: Array
    hands: Array | None = None
    face: Array | None = None


def from_coco(points: Array) -> Array:
    """The 17 points of COCO as OpenPose's 18.

    The neck is the middle between the shoulders; its score is the lower of theirs (DWPose, wholebody.py).

    Args:
        points: float [17, 3].

    Returns:
        float64 [18, 3].
    """
    left, right = points[5], points[6]
    neck = [*(left[:2] + right[:2]) / 2, min(left[2], right[2])]
    with_neck = np.concatenate([points, [neck]]).astype(np.float64)
    return with_neck[[0, 17, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]]


def from_body_25(points: Array) -> Array:
    """OpenPose's BODY_25 as its 18 points: without the middle of the hips and the feet.

    Args:
        points: float [25, 3].

    Returns:
        float64 [18, 3].
    """
    return points[[*range(8), *range(9, 19)]].astype(np.float64)


def without_strays(points: Array) -> Array:
    """Points of a model as they are, but those that are more than a picture away from it have not been found.

    Args:
        points: float [N, 3], x and y as fractions.

    Returns:
        float64 [N, 3]; strays are 0, 0, 0.
    """
    near = np.all(np.abs(points[:, :2] - 0.5) <= 1.5, axis=1, keepdims=True)  # false for NaN
    return np.where(near, points, 0).astype(np.float64)
