"""People as VACE's pose control shows them: coloured limbs, points and faces on black.

Shapes, colours, widths and order are those of DWPose (Yang et al., Effective Whole-body Pose Estimation with Two-stages
Distillation, 2023) in ali-vilab/VACE vace/annotators/dwpose/util.py and pose.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from colorsys import hsv_to_rgb
from typing import TYPE_CHECKING, Annotated, Literal

import cv2
import numpy as np
from pydantic import Field

from vace_adapt.annotators.keypoints import Person
from vace_adapt.contract import AnnotatorSettings

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

    Points = list[tuple[float, float] | None]  # in pixels; None is not drawn

# fmt: off
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17),
)
"""Pairs of OpenPose's 18 body points, in the order they are drawn: shoulders, arms, right leg, left leg, head."""

COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255),
    (255, 0, 170), (255, 0, 85),
)
"""RGB of the body points; limb i has the colour of point i."""

HAND_EDGES = (
    (0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (0, 9), (9, 10), (10, 11), (11, 12), (0, 13),
    (13, 14), (14, 15), (15, 16), (0, 17), (17, 18), (18, 19), (19, 20),
)
"""From the wrist along each finger."""
# fmt: on

HAND_COLOURS = [tuple(255 * part for part in hsv_to_rgb(i / len(HAND_EDGES), 1, 1)) for i in range(len(HAND_EDGES))]
HAND_POINT, FACE_POINT = (0, 0, 255), (255, 255, 255)

STICK = 4
"""Half the width of a limb, and the radius of a body or hand point, in pixels of the drawing."""

DIM = (np.arange(256) * 0.6).astype(np.uint8)
"""Brightness of the limbs under the points."""


class SkeletonSettings(AnnotatorSettings):
    """How people are drawn.

    Attributes:
        threshold: points of a score above it are drawn, and limbs between two such points. VACE has 0.3.
        colours: ``vace`` has red and blue swapped: so does VACE's code write its control video, and so do the figures
            of its authors show it (ali-vilab/VACE issue 134). Right arm azure, left leg orange. ``openpose`` is what
            OpenPose, DWPose and ControlNet show: right arm orange, left leg azure.
        short_side: pixels of the shorter side of the drawing, before it is scaled to the stream's size. Limbs and
            points are some 8 pixels wide in the drawing, so a smaller drawing has thicker ones. VACE has 1024.
    """

    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.3
    colours: Literal["vace", "openpose"] = "vace"
    short_side: Annotated[int, Field(ge=64, le=4096)] = 1024


def people_picture(people: Sequence[Person], height: int, width: int, settings: SkeletonSettings) -> Array:
    """The control picture of one frame.

    Args:
        people: who is in it; nobody gives black.
        height, width: of the picture.
        settings: how they are drawn.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    if not people:
        return np.zeros((height, width, 3), np.uint8)
    drawn = drawing_size(height, width, settings.short_side)
    drawing = draw_people(people, *drawn, settings.threshold)
    shrinks = height * width <= drawn[0] * drawn[1]
    picture = cv2.resize(drawing, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4)
    return np.ascontiguousarray(picture[..., ::-1]) if settings.colours == "vace" else picture


def drawing_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width of the drawing for a frame: about its aspect, both sides multiples of 64."""
    scale = short_side / min(height, width)
    return round(height * scale / 64) * 64, round(width * scale / 64) * 64


def draw_people(people: Sequence[Person], height: int, width: int, threshold: float) -> Array:
    """Draw people in DWPose's widths: bodies, then left hands, right hands, faces. Later people over earlier ones.

    Args:
        people: who is drawn.
        height, width: of the drawing.
        threshold: points of a score above it are drawn.

    Returns:
        uint8 [H, W, 3] RGB, in OpenPose's colours.
    """

    def points(keypoints: Array) -> Points:
        pixels = keypoints[:, :2] * [width, height]
        return [
            (float(x), float(y)) if score > threshold else None
            for (x, y), score in zip(pixels, keypoints[:, 2], strict=True)
        ]

    drawing = _bodies([points(person.body) for person in people], height, width)
    for side in range(2):
        for person in people:
            if person.hands is not None:
                _hand(drawing, points(person.hands[side]))
    for person in people:
        if person.face is not None:
            _face(drawing, points(person.face))
    return drawing


def _bodies(bodies: list[Points], height: int, width: int) -> Array:
    drawing = np.zeros((height, width, 3), np.uint8)
    for (start, end), colour in zip(LIMBS, COLOURS[: len(LIMBS)], strict=True):
        for body in bodies:
            a, b = body[start], body[end]
            if a is not None and b is not None:
                _limb(drawing, a, b, colour)
    dimmed = np.asarray(cv2.LUT(drawing, DIM))
    for i, colour in enumerate(COLOURS):
        for body in bodies:
            point = body[i]
            if point is not None:
                cv2.circle(dimmed, (int(point[0]), int(point[1])), STICK, colour, thickness=-1)
    return dimmed


def _limb(drawing: Array, a: tuple[float, float], b: tuple[float, float], colour: tuple[int, int, int]) -> None:
    """A filled ellipse from point to point; in place. All numbers are cut to whole ones, as in DWPose."""
    across, down = a[0] - b[0], a[1] - b[1]
    centre = int((a[0] + b[0]) / 2), int((a[1] + b[1]) / 2)
    axes = int((down**2 + across**2) ** 0.5 / 2), STICK
    outline = cv2.ellipse2Poly(centre, axes, int(math.degrees(math.atan2(down, across))), 0, 360, 1)
    cv2.fillConvexPoly(drawing, np.asarray(outline), colour)


def _hand(drawing: Array, points: Points) -> None:
    pixels = _inside(points)
    for (start, end), colour in zip(HAND_EDGES, HAND_COLOURS, strict=True):
        a, b = pixels[start], pixels[end]
        if a is not None and b is not None:
            cv2.line(drawing, a, b, colour, thickness=2)
    for pixel in pixels:
        if pixel is not None:
            cv2.circle(drawing, pixel, STICK, HAND_POINT, thickness=-1)


def _face(drawing: Array, points: Points) -> None:
    for pixel in _inside(points):
        if pixel is not None:
            cv2.circle(drawing, pixel, STICK - 1, FACE_POINT, thickness=-1)


def _inside(points: Points) -> list[tuple[int, int] | None]:
    """Whole pixels. DWPose draws no point of a hand or face in the first column or row, or before them."""
    pixels = [None if point is None else (int(point[0]), int(point[1])) for point in points]
    return [None if pixel is None or min(pixel) < 1 else pixel for pixel in pixels]
