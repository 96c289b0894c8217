from __future__ import annotations

import numpy as np
import pytest
from annotators.cuts import COUNTS, cut, moving
from golden_annotators import golden
from hypothesis import given, settings

from vace_adapt.annotators import gray
from vace_adapt.annotators.find import load_annotator, make_annotator
from vace_adapt.contract import Canvas
from vace_adapt.errors import SettingsError

COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 200, 90]]], np.uint8)
FRAMES = moving(9)


def made(frames, **options):
    return make_annotator("gray", options, Canvas(*frames.shape[1:3]))(frames, 0)


def test_bgr_is_vaces_own():
    case = golden("gray")
    before = case["input.frames"].copy()
    assert np.array_equal(made(case["input.frames"], order="bgr"), case["output.gray"])
    assert not np.array_equal(made(case["input.frames"]), case["output.gray"])
    assert np.array_equal(case["input.frames"], before)


def test_the_default_is_luma():
    expected = np.rint(COLOURS.astype(float) @ [0.299, 0.587, 0.114])
    assert expected[0].tolist() == [76, 150, 29, 255, 131]
    assert np.array_equal(gray.gray(COLOURS), np.repeat(expected[..., None], 3, axis=2))


def test_bgr_swaps_red_and_blue():
    assert gray.gray(COLOURS, "bgr")[0, :3, 0].tolist() == [29, 150, 76]


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@given(counts=COUNTS)
@settings(max_examples=10, deadline=None)
def test_a_cut_changes_nothing(order, counts):
    annotator = make_annotator("gray", {"order": order}, Canvas(48, 64))
    assert np.array_equal(cut(annotator, FRAMES, counts), [gray.gray(frame, order) for frame in FRAMES])


def test_what_it_says_of_itself():
    info = load_annotator("gray")
    assert (info.makes, info.reads, info.state) == ("control", "frames", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"order": "grb"}, "controls.annotators.gray.order: must be 'rgb' or 'bgr', not 'grb'"),
        ({"ordre": "bgr"}, "controls.annotators.gray.ordre: unknown key; did you mean 'order'?"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(SettingsError) as caught:
        make_annotator("gray", options, Canvas(48, 64))
    assert str(caught.value) == text
