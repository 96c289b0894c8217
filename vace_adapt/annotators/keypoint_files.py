"""Keypoints that were made elsewhere: files of OpenPose, of ControlNet's DWPose nodes, and of COCO.

What a path may be:
    A folder of OpenPose's ``..._000000000012_keypoints.json``, one for each frame.
    A list with one OpenPose object (``{"people": [...]}``) for each frame, or one such object.
    COCO annotations (``{"annotations": [...], "images": [...]}``): the images by their ids are the frames.
    COCO results (a list of ``{"image_id": 12, "keypoints": [...]}``): image_id is the number of the frame, from 0 on.

Coordinates are pixels of a canvas: ``canvas_height`` and ``canvas_width`` of an OpenPose object, ``height`` and
``width`` of a COCO image, or the size that is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vace_adapt.annotators.keypoints import FACE_POINTS, HAND_POINTS, Person, from_body_25, from_coco
from vace_adapt.errors import InputError

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

Size = tuple[float, float]  # height, width
Images = Mapping[Any, tuple[int, Any]]  # id to number of the frame and what COCO says of the image

LARGEST = 100
"""A coordinate of more heights or widths than this belongs to no picture, and OpenCV cannot draw towards it."""


def read_people(path: Path, size: Size | None = None) -> dict[int, list[Person]]:
    """The people of each frame.

    Args:
        path: a file or folder, see above.
        size: height and width of the canvas, in place of what the files say; (1, 1) for coordinates that are fractions.

    Returns:
        Frame number to people. Frames without people may be missing.

    Raises:
        InputError: no such file, or not one of these; numbers that are no coordinates; a canvas nobody names.
    """
    if not path.exists():
        raise InputError(f"keypoints: no file or folder {str(path)!r}")
    if path.is_dir():
        return {i: _openpose(str(file), _json(file), size) for i, file in enumerate(_numbered(path))}
    what, content = str(path), _json(path)
    if isinstance(content, dict) and "people" in content:
        return {0: _openpose(what, content, size)}
    if isinstance(content, dict) and "annotations" in content:
        return _coco(what, content["annotations"], _images(what, content.get("images")), size)
    if isinstance(content, list) and content and _all_have(content, "people"):
        return {i: _openpose(f"{what}: frame {i}", frame, size) for i, frame in enumerate(content)}
    if isinstance(content, list) and content and _all_have(content, "image_id"):
        return _coco(what, content, None, size)
    raise InputError(
        f"keypoints {what}: expected an OpenPose object with people, a list of them, or COCO annotations or results"
    )


def _numbered(folder: Path) -> list[Path]:
    """The files of a folder by number, which must not leave one out."""
    found = [(file, re.search(r"(\d+)_keypoints\.json$", file.name)) for file in sorted(folder.iterdir())]
    files = sorted((int(number[1]), file) for file, number in found if number)
    if not files:
        raise InputError(f"keypoints {folder}: no file ends in NUMBER_keypoints.json")
    for (before, _), (number, file) in pairwise(files):
        if number != before + 1:
            raise InputError(f"keypoints {folder}: {file.name} follows number {before}: expected one file a frame")
    return [file for _, file in files]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"keypoints {path}: cannot be read as JSON: {reason}") from error


def _openpose(what: str, frame: Any, size: Size | None) -> list[Person]:
    """The people of an OpenPose object."""
    people = frame.get("people") if isinstance(frame, dict) else None
    if not isinstance(people, list):
        raise InputError(f"keypoints {what}: expected an OpenPose object with a list of people")
    canvas = size or _canvas(what, frame.get("canvas_height"), frame.get("canvas_width")) if people else (1.0, 1.0)
    return [_person(f"{what}: people[{i}]", person, canvas) for i, person in enumerate(people)]


def _person(what: str, person: Any, canvas: Size) -> Person:
    if not isinstance(person, dict):
        raise InputError(f"keypoints {what} must be an object, not {type(person).__name__}")

    def points(key: str, *counts: int) -> Array | None:
        return _points(f"{what}.{key}", person[key], counts, canvas) if person.get(key) else None

    body = points("pose_keypoints_2d", 18, 25)
    if body is not None and len(body) == 25:
        body = from_body_25(body)
    left, right = (points(f"hand_{side}_keypoints_2d", HAND_POINTS) for side in ("left", "right"))
    no_hand = np.zeros((HAND_POINTS, 3))
    hands = [no_hand if hand is None else hand for hand in (left, right)]
    face = points("face_keypoints_2d", FACE_POINTS, FACE_POINTS + 2)
    return Person(
        np.zeros((18, 3)) if body is None else body,
        None if left is None and right is None else np.stack(hands),
        None if face is None else face[:FACE_POINTS],  # OpenPose appends the pupils
    )


def _images(what: str, images: Any) -> Images | None:
    """COCO's images by id: frame number and the image."""
    if not images:
        return None
    if not (isinstance(images, list) and _all_have(images, "id")):
        raise InputError(f"keypoints {what}: images must be a list of objects with an id")
    try:
        ordered = sorted(images, key=lambda image: image["id"])
        numbered = {image["id"]: (number, image) for number, image in enumerate(ordered)}
    except TypeError as error:
        raise InputError(f"keypoints {what}: the ids of images cannot be ordered: {error}") from error
    if len(numbered) != len(images):
        raise InputError(f"keypoints {what}: {len(images)} images have {len(numbered)} different ids")
    return numbered


def _coco(what: str, annotations: Any, images: Images | None, size: Size | None) -> dict[int, list[Person]]:
    if not (
        isinstance(annotations, list) and _all_have(annotations, "image_id") and _all_have(annotations, "keypoints")
    ):
        raise InputError(f"keypoints {what}: expected COCO keypoints, each with image_id and keypoints")
    frames: dict[int, list[Person]] = {}
    for i, annotation in enumerate(annotations):
        where, image_id = f"{what}: annotation {i}", annotation["image_id"]
        if images is not None and not (isinstance(image_id, Hashable) and image_id in images):
            raise InputError(f"keypoints {where} is of image {image_id!r}, which is not among the images")
        number, image = (image_id, {}) if images is None else images[image_id]
        if type(number) is not int or number < 0:
            raise InputError(f"keypoints {where}: image_id must be the number of a frame, not {number!r}")
        canvas = size or _canvas(where, image.get("height"), image.get("width"))
        points = _points(f"{where}: keypoints", annotation["keypoints"], (17,), canvas)
        frames.setdefault(number, []).append(Person(from_coco(points)))
    return frames


def _canvas(what: str, height: Any, width: Any) -> Size:
    if height is None or width is None:
        raise InputError(
            f"keypoints {what}: the file names no canvas: give size [height, width] of what it was made from"
        )
    if not all(type(side) in (int, float) and 1 <= side < float("inf") for side in (height, width)):
        raise InputError(f"keypoints {what}: the canvas must be two numbers of pixels, not {height!r} x {width!r}")
    return float(height), float(width)


def _points(what: str, numbers: Any, counts: tuple[int, ...], canvas: Size) -> Array:
    """x, y, score triples in pixels to float64 [N, 3] with fractions."""
    if not isinstance(numbers, list) or len(numbers) not in [3 * count for count in counts]:
        came = f"{len(numbers)} numbers" if isinstance(numbers, list) else type(numbers).__name__
        expected = " or ".join(f"{3 * count} ({count} points)" for count in counts)
        raise InputError(f"keypoints {what}: expected {expected}, not {came}")
    odd = [number for number in numbers if type(number) not in (int, float) or not abs(number) < 1e9]
    if odd:
        raise InputError(f"keypoints {what} must be numbers below 1e9, not {odd[0]!r}")
    triples = np.array(numbers, np.float64).reshape(-1, 3)
    points: Array = triples / [canvas[1], canvas[0], 1]
    found = triples[triples[:, 2] > 0, :2]
    size = f"{canvas[0]:g}x{canvas[1]:g}"
    if (triples[:, 2] < 0).any():
        raise InputError(f"keypoints {what}: a score must not be negative, not {triples[:, 2].min():g}")
    if np.abs(points[:, :2]).max() > LARGEST:
        raise InputError(f"keypoints {what}: a point is more than {LARGEST} canvases of {size} pixels away")
    if len(found) > 1 and 0 < found.max() <= 1 < min(canvas):
        raise InputError(
            f"keypoints {what} are all in the first pixel of {size}: are they fractions? then size is [1, 1]"
        )
    return points


def _all_have(things: list[Any], key: str) -> bool:
    return all(isinstance(thing, dict) and key in thing for thing in things)
