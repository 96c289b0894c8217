"""The box annotator, and boxes in settings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vace_adapt.annotators.boxes import BoxAt, box_at
from vace_adapt.annotators.find import load_annotator, make_annotator
from vace_adapt.boxes import to_pixels
from vace_adapt.contract import Canvas
from vace_adapt.errors import InputError, SettingsError

HEIGHT, WIDTH = 32, 48
INFO = load_annotator("mask_box")

PATH = [
    {"frame": 4, "box": [0.0, 0.0, 0.25, 0.5]},
    {"frame": 8, "box": [0.5, 0.5, 1.0, 1.0]},
    {"frame": 9, "box": [0.0, 0.5, 1.0, 1.0]},
]


def made(start=0, count=1, height=HEIGHT, width=WIDTH, **options):
    annotator = make_annotator("mask_box", options, Canvas(height, width))
    return annotator(np.full((count, height, width, 3), 128, np.uint8), start)


def rectangle(left, top, right, bottom):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def test_what_it_is():
    assert (INFO.makes, INFO.reads, INFO.state, INFO.weights, INFO.extra) == ("mask", "nothing", "", None, None)


def test_a_box_is_the_same_in_every_frame():
    masks = made(start=100, count=3, box=[0.25, 0.5, 0.5, 1.0])
    assert masks.dtype == np.uint8
    assert np.array_equal(masks, np.stack([rectangle(12, 16, 24, 32)] * 3))


def test_a_box_moves_linearly_and_rests_outside_its_path():
    masks = made(count=14, path=PATH)
    expected = {
        0: (0, 0, 12, 16), 4: (0, 0, 12, 16),
        5: (6, 4, 21, 20), 6: (12, 8, 30, 24), 7: (18, 12, 39, 28),
        8: (24, 16, 48, 32),
        9: (0, 16, 48, 32), 13: (0, 16, 48, 32),
    }  # fmt: skip
    for frame, pixels in expected.items():
        assert np.array_equal(masks[frame], rectangle(*pixels)), frame


def test_edges_are_at_the_nearest_pixel():
    """Of 48 columns 12.4 to 24.6, of 32 rows 8.6 to 16.4."""
    assert np.array_equal(made(box=[12.4 / 48, 8.6 / 32, 24.6 / 48, 16.4 / 32])[0], rectangle(12, 9, 25, 16))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 12), st.booleans())
def test_cuts_change_nothing(cuts, start, rest):
    parts, frame = [], start
    one, annotator = (INFO.make(INFO.settings(path=PATH), Canvas(HEIGHT, WIDTH)) for _ in range(2))
    whole = one(np.zeros((sum(cuts), HEIGHT, WIDTH, 3), np.uint8), start)
    for count in cuts:
        parts.append(annotator(np.zeros((count, HEIGHT, WIDTH, 3), np.uint8), frame))
        frame += count
        if rest:
            annotator.pause()
    assert np.array_equal(np.concatenate(parts), whole)


@settings(max_examples=200, deadline=None)
@given(*[st.floats(0, 1)] * 4, st.integers(1, 900))
def test_a_pixel_is_inside_where_its_centre_is(left, top, right, bottom, side):
    left, right = sorted((left, right))
    top, bottom = sorted((top, bottom))
    columns = [i for i in range(side) if left * side <= i + 0.5 < right * side]
    found = to_pixels((left, top, right, bottom), side, side)
    assert found[2] - found[0] == len(columns)
    assert not columns or (found[0], found[2] - 1) == (columns[0], columns[-1])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.floats(0, 0.9), st.floats(0, 0.9))
def test_a_moving_box_of_a_pixel_is_never_lost(frame, start, end):
    one = 1.001 / 64
    path = [BoxAt(frame=0, box=(x, x, x + one, x + one)) for x in (start, end)]
    path = [path[0], path[1].model_copy(update={"frame": 40})]
    left, top, right, bottom = to_pixels(box_at(path, frame), 64, 64)
    assert left < right
    assert top < bottom


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "controls.annotators.mask_box: give either box or path"),
        ({"box": [0, 0, 1, 1], "path": PATH}, "controls.annotators.mask_box: give either box or path"),
        (
            {"box": [0.5, 0, 0.5, 1]},
            "controls.annotators.mask_box.box: must be [left, top, right, bottom] with left < right and top < bottom, not [0.5, 0.0, 0.5, 1.0]",
        ),
        ({"box": [0.5, 0, 1.5, 1]}, "controls.annotators.mask_box.box.2: must be less than or equal to 1, not 1.5"),
        (
            {"path": PATH[::-1]},
            "controls.annotators.mask_box.path: the frames of a path must rise from point to point, not [9, 8, 4]",
        ),
        (
            {"path": [PATH[0], PATH[0]]},
            "controls.annotators.mask_box.path: the frames of a path must rise from point to point, not [4, 4]",
        ),
        ({"path": []}, "controls.annotators.mask_box.path: a path needs at least one point"),
        ({"paths": PATH, "box": [0, 0, 1, 1]}, "controls.annotators.mask_box.paths: unknown key; did you mean 'path'?"),
    ],
)
def test_mistakes(options, text):
    with pytest.raises(SettingsError) as error:
        made(**options)
    assert str(error.value) == text


@pytest.mark.parametrize(
    "options", [{"box": [0.5, 0, 0.51, 0.5]}, {"path": [PATH[0], {"frame": 9, "box": [0.5, 0, 0.51, 0.5]}]}]
)
def test_a_box_below_a_pixel(options):
    with pytest.raises(InputError) as error:
        made(**options)
    assert str(error.value) == (
        "box [0.5, 0.0, 0.51, 0.5] is 16x0.48 pixels (height x width) of a 32x48 frame: a side must be at least 1"
    )


def test_a_box_of_exactly_a_pixel():
    assert np.array_equal(
        made(box=[0.7, 0.7, 0.8, 0.8], height=10, width=10)[0] > 0, np.arange(10)[:, None] + np.arange(10) * 100 == 707
    )
