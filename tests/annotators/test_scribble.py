from __future__ import annotations

import numpy as np
import pytest
from annotators.cuts import COUNTS, cut, halves, moving
from hypothesis import given, settings

from vace_adapt.annotators.find import load_annotator, make_annotator
from vace_adapt.annotators.scribble import ScribbleSettings, scribble
from vace_adapt.contract import Canvas
from vace_adapt.errors import SettingsError

FRAMES = moving(9)


def drawing(frame, **options):
    """uint8 [H, W]."""
    picture = scribble(frame, ScribbleSettings(**options))
    assert picture.shape == frame.shape
    assert picture.dtype == np.uint8
    assert (picture == picture[..., :1]).all()
    return picture[..., 0]


def blurred(row, sigma):
    """A row under a Gaussian, summed term by term; its ends go on."""
    reach = np.arange(-60, 61)
    weights = np.exp(-(reach**2) / (2 * sigma**2))
    padded = np.pad(row, 60, mode="edge")
    return np.convolve(padded, weights / weights.sum(), mode="valid")


@pytest.mark.parametrize(
    "options",
    [
        {"sigma": 1.4, "k": 1.6, "tau": 1.0, "epsilon": -0.005, "phi": 60.0},
        {"sigma": 1.4, "k": 1.6, "tau": 1.0, "epsilon": -0.005, "phi": 10.0},
        {"sigma": 2.0, "k": 1.6, "tau": 0.9, "epsilon": 0.03, "phi": 20.0},
        {"sigma": 1.0, "k": 3.0, "tau": 0.98, "epsilon": 0.0, "phi": 5.0},
        {"sigma": 1.0, "k": 1.6, "tau": 0.0, "epsilon": 0.5, "phi": 2.0},
    ],
)
def test_the_formula(options):
    sigma, k, tau, epsilon, phi = options.values()
    row = np.array([60] * 24 + [190] * 24) / 255
    d = blurred(row, sigma) - tau * blurred(row, k * sigma)
    expected = 255 * np.where(d >= epsilon, 1, 1 + np.tanh(phi * (d - epsilon)))
    assert np.ptp(expected) > 40
    assert np.abs(drawing(halves(60, 190), **options) - expected).max() < 1.1


def test_the_defaults():
    given = {"sigma": 1.4, "k": 1.6, "tau": 1.0, "epsilon": -0.005, "phi": 60.0}
    assert ScribbleSettings().model_dump() == given


def test_dark_lines_on_white_on_the_dark_side_of_an_edge():
    drawn = drawing(halves(60, 190))
    assert (drawn[:, 22:24] < 40).all()
    assert (drawn[:, 24:] == 255).all()
    assert (drawn[:, :15] == 255).all()


@pytest.mark.parametrize("level", [0, 30, 128, 255])
def test_even_gray_is_paper(level):
    assert (drawing(halves(level, level)) == 255).all()


def test_epsilon_leaves_weak_contrast_out():
    weak = halves(100, 120)
    assert drawing(weak).min() < 255
    assert (drawing(weak, epsilon=-0.05) == 255).all()


def test_below_1_tau_asks_more_of_bright_regions():
    dark, bright = halves(10, 40), halves(210, 240)
    assert np.array_equal(drawing(dark), drawing(bright))
    assert drawing(dark, tau=0.95, epsilon=0).min() < 150 < drawing(bright, tau=0.95, epsilon=0).min()


@given(counts=COUNTS)
@settings(max_examples=10, deadline=None)
def test_a_cut_changes_nothing(counts):
    before = FRAMES.copy()
    annotator = make_annotator("scribble", {}, Canvas(48, 64))
    expected = [scribble(frame, ScribbleSettings()) for frame in FRAMES]
    assert np.array_equal(cut(annotator, FRAMES, counts), expected)
    assert np.array_equal(FRAMES, before)
    assert not np.array_equal(expected[0], expected[1])


def test_what_it_says_of_itself():
    info = load_annotator("scribble")
    assert (info.makes, info.reads, info.state) == ("control", "frames", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sigma": 0.2}, "controls.annotators.scribble.sigma: must be greater than or equal to 0.3, not 0.2"),
        ({"k": 1}, "controls.annotators.scribble.k: must be greater than or equal to 1.1, not 1"),
        ({"tau": 1.1}, "controls.annotators.scribble.tau: must be less than or equal to 1, not 1.1"),
        ({"epsilon": -2}, "controls.annotators.scribble.epsilon: must be greater than or equal to -1, not -2"),
        ({"phi": 0}, "controls.annotators.scribble.phi: must be greater than 0, not 0"),
        ({"p": 20}, "controls.annotators.scribble.p: unknown key"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(SettingsError) as caught:
        make_annotator("scribble", options, Canvas(48, 64))
    assert str(caught.value).startswith(text)
