"""References cut down to their subject."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import HEIGHT, WIDTH, opened, picture

from vace_adapt import Reference
from vace_adapt.errors import InputError

MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[8:24, 16:40] = 255


def test_a_subject_is_cut_out_and_stands_on_white(pipe):
    image = np.full((40, 60, 3), 30, np.uint8)
    image[10:30, 20:40] = (250, 10, 10)
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 255
    cut = Reference(np.full((20, 20, 3), (250, 10, 10), np.uint8))
    letterboxed = {"controls": {"reference_fit": "letterbox"}}
    made = []
    for reference, options in (
        (cut, letterboxed),
        (Reference(image, mask=mask), {}),
        (Reference(image, box=(1 / 3, 0.25, 2 / 3, 0.75)), {}),
        (Reference(image, background="remove"), {}),
        (image, {"controls": {"reference_background": "remove"}}),
    ):
        with opened(pipe, num_frames=9, references=[reference], **options) as session:
            made.append(next(session).latents)
    assert all(torch.equal(made[0], other) for other in made[1:])


@pytest.mark.parametrize("box", ["abc", 5, (0, 0, 1), (0, 0, 1, "a")])
def test_boxes_that_are_none(box):
    with pytest.raises(InputError, match="box of a reference must be 4 numbers, left, top, right, bottom, not "):
        Reference(picture(), box=box)


def test_references_that_cannot_be_cut(pipe):
    with pytest.raises(InputError, match="background of a reference must be keep or remove, not 'remov'"):
        Reference(picture(), background="remov")
    with pytest.raises(InputError, match="a reference has a mask and a box: give one of them"):
        Reference(picture(), mask=MASK, box=(0, 0, 1, 1))
    with pytest.raises(InputError, match=r"reference 0: mask must be uint8 \[40, 30\], not uint8 \[32, 48\]"):
        opened(pipe, references=[Reference(picture(), mask=MASK)])
