"""A reference picture cut down to its subject: on white and close-cropped, as VACE was given its references.

Source: ali-vilab/VACE vace/annotators/subject.py with the options of its task ``image_reference``. VACE finds subjects
with models; here a mask or a box is given, or `remove_background` makes an approximate mask without weights.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from vace_adapt.boxes import Box, to_pixels
from vace_adapt.errors import InputError

Array = np.ndarray[Any, Any]

WHITE = 255


def cut_subject(image: Array, mask: Array | None = None, box: Box | None = None, crop: bool = True) -> Array:
    """The subject on white.

    Args:
        image: uint8 [H, W, 3].
        mask: uint8 [H, W]; the subject is where it is above 127. Give this or `box`.
        box: left, top, right, bottom as fractions of width and height; all inside is the subject.
        crop: cut to the subject's bounding box; otherwise the picture keeps its size.

    Returns:
        uint8 [h, w, 3], a new array.

    Raises:
        InputError: both or neither given, a mask of another size or without a subject, a box that is not one.
    """
    _check_image(image)
    if (mask is None) == (box is None):
        raise InputError("give either a mask or a box of the subject")
    subject = np.zeros(image.shape[:2], bool)
    if box is not None:
        left, top, right, bottom = _checked(box, *image.shape[:2])
        subject[top:bottom, left:right] = True
    if mask is not None:
        if mask.dtype != np.uint8 or mask.shape != image.shape[:2]:
            raise InputError(f"mask must be uint8 {list(image.shape[:2])}, not {mask.dtype} {list(mask.shape)}")
        subject = mask > 127
    if not subject.any():
        raise InputError("mask shows no subject: no value is above 127")
    made = np.where(subject[..., None], image, np.uint8(WHITE))
    if not crop:
        return made
    left, top, width, height = cv2.boundingRect(subject.astype(np.uint8))
    return made[top : top + height, left : left + width].copy()


def remove_background(image: Array, box: Box | None = None) -> Array:
    """An approximate mask of what stands out from its surroundings, by colour (GrabCut, Rother et al. 2004).

    It works on a subject whose colours differ from those around it, and takes the largest connected part that does.
    Look at the result; where it is wrong, draw a mask. The same picture gives the same mask. OpenCV draws random
    numbers for it, from a state that belongs to the thread: it is seeded in a thread of its own, so nobody else's
    numbers change.

    Args:
        image: uint8 [H, W, 3].
        box: left, top, right, bottom around the subject, as fractions; outside all is background. None takes all but a
            border of 1/16 of each side.

    Returns:
        uint8 [H, W], 255 = subject, 0 = background.

    Raises:
        InputError: a box that is not one, or covers the whole picture; or nothing stands out.
    """
    _check_image(image)
    left, top, right, bottom = _checked((1 / 16, 1 / 16, 15 / 16, 15 / 16) if box is None else box, *image.shape[:2])
    if (bottom - top, right - left) == image.shape[:2]:
        raise InputError("box covers the whole picture: leave some background around the subject")
    with ThreadPoolExecutor(max_workers=1) as thread:
        mask = thread.submit(_grab_cut, image, (left, top, right - left, bottom - top)).result()
    if not mask.any():
        raise InputError("nothing stands out from the background: give a mask, or a box closer around the subject")
    _, parts, sizes, _ = cv2.connectedComponentsWithStats(mask)
    largest = 1 + int(sizes[1:, cv2.CC_STAT_AREA].argmax())
    return (parts == largest).astype(np.uint8) * 255


def _grab_cut(image: Array, rectangle: tuple[int, int, int, int]) -> Array:
    cv2.setRNGSeed(0)
    labels = np.zeros(image.shape[:2], np.uint8)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(image), labels, rectangle, background, foreground, 5, cv2.GC_INIT_WITH_RECT)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8) * 255


def _checked(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels whose centres lie in a box."""
    left, top, right, bottom = box
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise InputError(
            f"box must be [left, top, right, bottom] within 0..1 with left < right and top < bottom, not {list(box)}"
        )
    pixels = to_pixels(box, height, width)
    if pixels[0] == pixels[2] or pixels[1] == pixels[3]:
        raise InputError(f"box {list(box)} holds no pixel of a {height}x{width} picture")
    return pixels


def _check_image(image: Array) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or image.size == 0:
        raise InputError(f"image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
