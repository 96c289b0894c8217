from __future__ import annotations

import numpy as np
import pytest
from annotators.cuts import COUNTS, cut, halves, moving
from hypothesis import given, settings

from vace_adapt.annotators.canny import STEEPEST, CannySettings, canny
from vace_adapt.annotators.find import load_annotator, make_annotator
from vace_adapt.contract import Canvas
from vace_adapt.errors import SettingsError

FRAMES = moving(9)


def edges(frame, **options):
    """Where the edges are: bool [H, W]."""
    picture = canny(frame, CannySettings(**options))
    assert picture.shape == frame.shape
    assert picture.dtype == np.uint8
    assert (picture == picture[..., :1]).all()
    assert set(np.unique(picture)) <= {0, 255}
    return picture[..., 0] == 255


def test_an_edge_is_a_thin_line():
    found = edges(halves(50, 150))
    assert found.sum(axis=1).tolist() == [1] * 32
    assert found[:, 23:25].any(axis=1).all()


@pytest.mark.parametrize(("high", "there"), [(4 * 51 - 1, True), (4 * 51, False)])
def test_the_threshold_is_the_gradient(high, there):
    assert edges(halves(100, 151), high=high).any() == there


def test_a_weak_edge_goes_on_from_a_strong_one():
    frame = halves(100, 200)
    frame[16:, 24:] = 130  # 4 * 30 = 120
    assert edges(frame, low=100, high=300)[18:30].any(axis=1).all()
    assert not edges(frame, low=130, high=300)[20:].any()
    assert not edges(halves(100, 130), low=100, high=300).any()


def test_an_edge_of_colour_alone_is_found():
    frame = halves(0, 0)
    frame[:, :24] = (250, 0, 0)
    frame[:, 24:] = (0, 127, 0)  # as bright
    assert edges(frame)[:, 22:26].any(axis=1).all()


def test_blur_leaves_noise_out():
    noisy = np.random.default_rng(0).integers(90, 160, (48, 64, 3)).astype(np.uint8)
    assert edges(noisy).mean() > 0.1
    assert not edges(noisy, blur=3.0).any()
    assert edges(halves(0, 255), blur=3.0).any()


def test_the_steepest_gradient():
    frame = halves(0, 255)
    assert edges(frame, low=0, high=4 * 255 - 1).any()
    assert not edges(np.random.default_rng(0).choice([0, 255], (99, 99, 3)).astype(np.uint8), high=STEEPEST).any()


def test_invert():
    options = {"low": 20, "high": 60}
    dark = canny(FRAMES[0], CannySettings(invert=True, **options))
    assert np.array_equal(dark, 255 - canny(FRAMES[0], CannySettings(**options)))
    assert 0.01 < (dark == 0).mean() < 0.5


@given(counts=COUNTS)
@settings(max_examples=10, deadline=None)
def test_a_cut_changes_nothing(counts):
    options, before = {"blur": 0.8, "low": 20, "high": 60}, FRAMES.copy()
    annotator = make_annotator("canny", options, Canvas(48, 64))
    expected = [canny(frame, CannySettings(**options)) for frame in FRAMES]
    assert np.array_equal(cut(annotator, FRAMES, counts), expected)
    assert np.array_equal(FRAMES, before)
    assert not np.array_equal(expected[0], expected[1])


def test_what_it_says_of_itself():
    info = load_annotator("canny")
    assert (info.makes, info.reads, info.state) == ("control", "frames", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"low": 201}, "controls.annotators.canny: low must not be above high, not 201 and 200"),
        ({"high": 2041}, "controls.annotators.canny.high: must be less than or equal to 2040, not 2041"),
        ({"low": -1}, "controls.annotators.canny.low: must be greater than or equal to 0, not -1"),
        ({"blur": float("nan")}, "controls.annotators.canny.blur: must be a finite number, not nan"),
        ({"blur": 21}, "controls.annotators.canny.blur: must be less than or equal to 20, not 21"),
        ({"inverted": True}, "controls.annotators.canny.inverted: unknown key; did you mean 'invert'?"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(SettingsError) as caught:
        make_annotator("canny", options, Canvas(48, 64))
    assert str(caught.value) == text
