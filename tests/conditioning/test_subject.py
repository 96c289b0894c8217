"""References cut down to their subject."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import picture

from vace_adapt.conditioning import subject
from vace_adapt.conditioning.subject import cut_subject, remove_background
from vace_adapt.errors import InputError

HEIGHT, WIDTH = 40, 30

masks = st.builds(
    lambda seed, share: np.where(np.random.default_rng(seed).random((HEIGHT, WIDTH)) < share, 128, 127).astype(
        np.uint8
    ),
    st.integers(0, 2**31),
    st.sampled_from([0.002, 0.05, 0.6, 1.0]),
).filter(lambda mask: (mask > 127).any())


def scene(seed=0, height=60, width=80):
    """A bright ellipse on a dark textured ground, and where it is."""
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 2)
    where = np.zeros((height, width), np.uint8)
    cv2.ellipse(where, (width // 2 + 4, height // 2), (width // 5, height // 4), 20, 0, 360, 255, -1)
    image[where > 0] = (220, 150, 60)
    return image, where


@settings(max_examples=60, deadline=None)
@given(masks)
def test_the_subject_on_white(mask):
    image = picture()
    before = image.copy()
    made = cut_subject(image, mask, crop=False)
    assert np.array_equal(made[mask > 127], image[mask > 127])
    assert (made[mask <= 127] == 255).all()
    assert np.array_equal(image, before)


@settings(max_examples=60, deadline=None)
@given(masks)
def test_cropped_to_its_bounding_box(mask):
    rows, columns = np.nonzero(mask > 127)
    whole = cut_subject(picture(), mask, crop=False)
    close = whole[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert np.array_equal(cut_subject(picture(), mask), close)


def test_a_box_is_its_content():
    """Of 30 columns 3 to 12.4, of 40 rows 10 to 29.8: edges at the nearest pixel."""
    box = (0.1, 0.25, 0.413, 0.745)
    assert np.array_equal(cut_subject(picture(), box=box), picture()[10:30, 3:12])
    whole = cut_subject(picture(), box=box, crop=False)
    assert np.array_equal(whole[10:30, 3:12], picture()[10:30, 3:12])
    whole[10:30, 3:12] = 255
    assert (whole == 255).all()


def test_a_box_may_be_the_picture():
    assert np.array_equal(cut_subject(picture(), box=(0, 0, 1, 1)), picture())


@pytest.mark.parametrize("box", [None, (0.2, 0.1, 0.95, 0.9)])
@pytest.mark.parametrize("seed", [0, 1])
def test_background_is_found_by_its_colour(seed, box):
    image, where = scene(seed)
    before = image.copy()
    made = remove_background(image, box)
    assert np.array_equal(made, where)
    assert made.dtype == np.uint8
    assert np.array_equal(image, before)


def test_nothing_is_found_outside_the_box():
    image, where = scene()
    image[:, :14] = (40, 200, 230)
    assert np.count_nonzero(where) < 14 * 60
    assert np.array_equal(remove_background(image, (0.2, 0.1, 0.95, 0.9)), where)


def test_only_the_largest_part_is_taken():
    image, where = scene()
    image[8:14, 8:16] = (220, 150, 60)
    assert np.array_equal(remove_background(image), where)
    assert (subject._grab_cut(image, (5, 4, 70, 52))[8:14, 8:16] == 255).all()


def test_randomness_stays_inside():
    """OpenCV's random numbers of the caller do not matter and are not drawn; without a thread of its own they are."""
    image, _ = scene()

    def numbers():
        return cv2.randu(np.zeros((1, 8), np.uint8), 0, 255).tolist()

    cv2.setRNGSeed(3)
    undisturbed = [numbers(), numbers()]
    cv2.setRNGSeed(3)
    first = numbers()
    made = remove_background(image)
    assert [first, numbers()] == undisturbed
    cv2.setRNGSeed(99)
    assert np.array_equal(remove_background(image), made)
    cv2.setRNGSeed(3)
    first = numbers()
    subject._grab_cut(image, (5, 4, 70, 52))
    assert [first, numbers()] != undisturbed


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "give either a mask or a box of the subject"),
        (
            {"mask": np.full((HEIGHT, WIDTH), 255, np.uint8), "box": (0, 0, 1, 1)},
            "give either a mask or a box of the subject",
        ),
        ({"mask": np.zeros((HEIGHT, WIDTH), np.uint8)}, "mask shows no subject: no value is above 127"),
        ({"mask": np.zeros((WIDTH, HEIGHT), np.uint8)}, "mask must be uint8 [40, 30], not uint8 [30, 40]"),
        ({"mask": np.zeros((HEIGHT, WIDTH), bool)}, "mask must be uint8 [40, 30], not bool [40, 30]"),
        (
            {"box": (0.5, 0, 1.1, 1)},
            "box must be [left, top, right, bottom] within 0..1 with left < right and top < bottom, not [0.5, 0, 1.1, 1]",
        ),
        (
            {"box": (0.5, 0.4, 0.4, 0.5)},
            "box must be [left, top, right, bottom] within 0..1 with left < right and top < bottom, not [0.5, 0.4, 0.4, 0.5]",
        ),
        ({"box": (0.5, 0.4, 0.501, 0.5)}, "box [0.5, 0.4, 0.501, 0.5] holds no pixel of a 40x30 picture"),
    ],
)
def test_mistakes(options, text):
    with pytest.raises(InputError) as error:
        cut_subject(picture(), **options)
    assert str(error.value) == text


@pytest.mark.parametrize("call", [lambda image: cut_subject(image, box=(0, 0, 1, 1)), remove_background])
def test_what_is_not_a_picture(call):
    for image, came in (
        (np.zeros((4, 4, 3)), "float64 [4, 4, 3]"),
        (np.zeros((4, 4, 4), np.uint8), "uint8 [4, 4, 4]"),
        (np.zeros((1, 4, 4, 3), np.uint8), "uint8 [1, 4, 4, 3]"),
    ):
        with pytest.raises(InputError) as error:
            call(image)
        assert str(error.value) == f"image must be uint8 [H, W, 3], not {came}"


def test_where_no_background_can_be_told():
    with pytest.raises(InputError, match="^box covers the whole picture: leave some background around the subject$"):
        remove_background(picture(), (0, 0, 1, 1))
    with pytest.raises(
        InputError, match="^nothing stands out from the background: give a mask, or a box closer around the subject$"
    ):
        remove_background(np.full((40, 30, 3), 77, np.uint8))
