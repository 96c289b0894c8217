"""Masks drawn with dots: equal to VACE's own, and to a plain reckoning in whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from support import GOLDEN

from vace_adapt.composition.mask_drawing import box_of_dots, hull_of_dots
from vace_adapt.errors import InputError

AUGMENTED = load_file(GOLDEN / "annotators" / "maskaug.safetensors")


def dotted(points, height=30, width=40):
    made = np.zeros((height, width), np.uint8)
    made[tuple(np.transpose(points))] = 255
    return made


def test_dots_equal_to_vace():
    dots = AUGMENTED["input.dots"]
    assert np.array_equal(hull_of_dots(dots), AUGMENTED["output.draw_hull"])
    assert np.array_equal(box_of_dots(dots), AUGMENTED["output.draw_bbox"])
    moved = np.roll(dots, 1, axis=1)
    assert not np.array_equal(hull_of_dots(moved), AUGMENTED["output.draw_hull"])
    assert not np.array_equal(box_of_dots(moved), AUGMENTED["output.draw_bbox"])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), min_size=3, max_size=7, unique=True))
def test_hull_of_single_pixels(points):
    """Even positions, so that no two touch. A pixel is inside where it lies on one side of every pair's line that has
    all dots on that side.
    """
    corners = [(2 * row, 2 * column) for row, column in points]
    y, x = np.mgrid[:30, :40]
    expected, flat = np.ones((30, 40), bool), True
    for ay, ax in corners:
        for by, bx in corners:
            turns = [(bx - ax) * (cy - ay) - (by - ay) * (cx - ax) for cy, cx in corners]
            flat = flat and not any(turns)
            if (ay, ax) != (by, bx) and min(turns) >= 0:
                expected &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0
    if flat:
        with pytest.raises(InputError):
            hull_of_dots(dotted(corners))
    else:
        assert np.array_equal(hull_of_dots(dotted(corners)) == 255, expected)


def test_a_blot_stands_for_its_centre():
    blots = dotted([(4, 4), (4, 5), (5, 4), (5, 5), (20, 10), (21, 10), (22, 10), (10, 30)])
    assert np.array_equal(box_of_dots(blots)[4:22, 4:31], np.full((18, 27), 255))
    assert np.count_nonzero(box_of_dots(blots)) == 18 * 27
    assert not np.array_equal(hull_of_dots(blots), hull_of_dots(dotted([(4, 4), (21, 10), (10, 30)])))


def test_corners_alone_do_not_join_blots():
    assert np.count_nonzero(box_of_dots(dotted([(4, 4), (5, 5)]))) == 4


def test_only_255_is_a_dot():
    faint = dotted([(4, 4), (20, 8), (9, 30)])
    faint[15, 35] = 254
    assert np.array_equal(hull_of_dots(faint), hull_of_dots(dotted([(4, 4), (20, 8), (9, 30)])))


def test_one_dot_is_a_box_of_one_pixel():
    assert np.argwhere(box_of_dots(dotted([(7, 9)]))).tolist() == [[7, 9]]


@pytest.mark.parametrize("points", [[], [(3, 3)], [(3, 3), (9, 9)], [(2, 2), (4, 4), (8, 8), (12, 12)]])
def test_too_few_dots(points):
    dots = dotted(points) if points else np.zeros((30, 40), np.uint8)
    with pytest.raises(InputError) as error:
        hull_of_dots(dots)
    assert str(error.value) == f"dots: a hull needs at least 3 blots of 255 that are not on one line, not {len(points)}"


def test_no_dots_no_box():
    with pytest.raises(InputError, match="^dots: there is no blot of 255$"):
        box_of_dots(np.zeros((30, 40), np.uint8))


def test_what_is_not_a_drawing():
    for wrong, came in ((np.zeros((3, 4)), "float64 [3, 4]"), (np.zeros((1, 3, 4), np.uint8), "uint8 [1, 3, 4]")):
        with pytest.raises(InputError) as error:
            hull_of_dots(wrong)
        assert str(error.value) == f"dots must be uint8 [H, W], not {came}"
