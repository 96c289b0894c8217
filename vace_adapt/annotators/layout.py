"""Boxes that move over white: where objects are to be.

ali-vilab/VACE vace/annotators/layout.py ``LayoutBboxAnnotator`` draws one box that moves between two places. Here are
any number of objects, each with a path of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import cv2
import numpy as np
from pydantic import Field, model_validator

from vace_adapt.annotators.boxes import BoxAt, BoxPath, box_at
from vace_adapt.annotators.label_colours import Colour, Label, object_colour
from vace_adapt.boxes import to_pixels
from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings, Canvas, Frozen
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

    Rectangle = tuple[int, int, int, int]


class LayoutObject(Frozen):
    """One object.

    Attributes:
        label: what it is. Gives the colour where none is named, and can be written beside the box.
        colour: red, green, blue, 0..255. Without colour and label the box is black.
        path: points ``{frame, box}``, frames ascending, boxes as fractions [left, top, right, bottom]. The box moves
            linearly between them and stands still before the first and after the last.
    """

    label: Label | None = None
    colour: Colour | None = None
    path: BoxPath


class LayoutSettings(AnnotatorSettings):
    """What is drawn; one object at least, later ones over earlier ones.

    Attributes:
        objects: what moves.
        thickness: of the lines, in pixels as OpenCV counts them.
        labels: write each label at its box. VACE writes none.
        as_vace: do what VACE's code does: a box that moves over N frames goes N-1 of N steps, so its last frame is
            one step short of the end; place and size are cut to whole pixels, not rounded; red and blue of the colour
            are swapped. VACE knows no path of more than two points.
    """

    objects: tuple[LayoutObject, ...]
    thickness: Annotated[int, Field(ge=1, le=100)] = 2
    labels: bool = False
    as_vace: bool = False

    @model_validator(mode="after")
    def _can_be_drawn(self) -> LayoutSettings:
        if not self.objects:
            raise ValueError("objects must name at least one")
        longest = max(len(moving.path) for moving in self.objects)
        if self.as_vace and longest > 2:
            raise ValueError(f"as_vace moves a box between two points, not along {longest}")
        return self


class Layout:
    """Draws the boxes of each frame.

    Args:
        settings: what is drawn.
        height, width: of the pictures.
    """

    def __init__(self, settings: LayoutSettings, height: int, width: int) -> None:
        self._settings = settings
        self._size = height, width

    def __call__(self, frames: Array, start: int) -> Array:
        pictures = np.full(frames.shape, 255, np.uint8)
        for i in range(len(pictures)):
            for moving in self._settings.objects:
                self._draw(pictures[i], moving, start + i)
        return pictures

    def pause(self) -> None:
        """It goes by frame numbers only."""

    def _draw(self, picture: Array, moving: LayoutObject, number: int) -> None:
        colour = object_colour(moving.colour, moving.label)
        if self._settings.as_vace:
            colour, box = colour[::-1], _box_as_vace(moving.path, number, *self._size)
        else:
            box = to_pixels(box_at(moving.path, number), *self._size)
        cv2.rectangle(picture, box[:2], box[2:], colour, self._settings.thickness)
        if self._settings.labels and moving.label is not None:
            write_label(picture, moving.label, box, colour)


def vace_box(start: Rectangle, end: Rectangle, frame: int, count: int) -> Rectangle:
    """Where VACE's own code has a moving box, in its float32 arithmetic.

    Args:
        start, end: left, top, right, bottom in pixels.
        frame: 0..count-1. At `count`, which never comes, the box would be at its end.
        count: frames of the move.

    Returns:
        left, top, right, bottom in pixels, place and size cut to whole ones.
    """
    begin, finish = np.array([(*box[:2], box[2] - box[0], box[3] - box[1]) for box in (start, end)], np.float32)
    now = begin + (finish - begin) / np.float32(count) * np.float32(frame)
    left, top, width, height = now.astype(int).tolist()
    return left, top, left + width, top + height


def write_label(picture: Array, label: str, box: Rectangle, colour: Colour) -> None:
    """Write a label above its box, or inside it where there is no room; in place.

    Args:
        picture: uint8 [H, W, 3] RGB.
        label: the text.
        box: left, top, right, bottom in pixels.
        colour: of the text.
    """
    height, width = picture.shape[:2]
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, max(0.4, height / 800)
    (length, ascent), descent = cv2.getTextSize(label, font, scale, 1)
    gap = 4 + descent
    above = box[1] - gap >= ascent
    left, bottom = (box[0], box[1] - gap) if above else (box[0] + gap, box[1] + gap + ascent)
    cv2.putText(picture, label, (max(0, min(left, width - length)), bottom), font, scale, colour, 1, cv2.LINE_AA)


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="layout",
        hook_api=HOOK_API,
        summary="boxes that move along paths, on white",
        makes="control",
        settings=LayoutSettings,
        make=_make,
        reads="nothing",
    )


def _make(settings: LayoutSettings, canvas: Canvas) -> Layout:
    return Layout(settings, canvas.height, canvas.width)


def _box_as_vace(path: tuple[BoxAt, ...], number: int, height: int, width: int) -> Rectangle:
    """`vace_box` of a path of one or two points, still before and after it."""
    first, last = path[0], path[-1]
    count = last.frame - first.frame + 1
    frame = min(max(number - first.frame, 0), count - 1)
    return vace_box(to_pixels(first.box, height, width), to_pixels(last.box, height, width), frame, count)
