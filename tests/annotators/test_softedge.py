from __future__ import annotations

import numpy as np
import pytest
from annotators.cuts import COUNTS, cut, halves, moving
from hypothesis import given, settings

from vace_adapt.annotators.find import load_annotator, make_annotator
from vace_adapt.annotators.softedge import SoftedgeSettings, softedge
from vace_adapt.contract import Canvas
from vace_adapt.errors import SettingsError

FRAMES = moving(9)


def strength(frame, **options):
    """uint8 [H, W]."""
    picture = softedge(frame, SoftedgeSettings(**options))
    assert picture.shape == frame.shape
    assert picture.dtype == np.uint8
    assert (picture == picture[..., :1]).all()
    return picture[..., 0]


@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("contrast", [80, 255])
def test_an_edge_of_that_contrast_is_white(sigma, contrast):
    steep = strength(halves(0, contrast, 64, 128), sigma=sigma, contrast=contrast)
    assert (steep[:, 63:65] == 255).all()
    assert strength(halves(0, contrast // 2, 64, 128), sigma=sigma, contrast=contrast).max() == pytest.approx(
        255 * (contrast // 2) / contrast, abs=0.6
    )


def test_beyond_that_contrast_it_stays_white():
    assert (strength(halves(0, 250), contrast=80)[:, 23:25] == 255).all()


def test_the_direction_does_not_matter():
    diagonal = np.where(np.add.outer(np.arange(64), np.arange(64)) < 64, 20, 100).astype(np.uint8)
    upright, slanted = (strength(frame)[20:44].max() for frame in (halves(20, 100, 64, 64), np.dstack([diagonal] * 3)))
    assert upright == 255
    assert slanted == pytest.approx(255, abs=13)


def test_nothing_else_in_the_frame_matters():
    alone = halves(100, 130, 64, 128)
    beside = alone.copy()
    beside[:, 100:] = 0
    assert np.array_equal(strength(alone)[:, :80], strength(beside)[:, :80])
    assert strength(beside).max() > strength(alone).max()


def test_sigma_is_the_width():
    narrow, wide = (int((strength(halves(0, 80), sigma=sigma)[16] > 127).sum()) for sigma in (1.0, 2.0))
    assert (narrow, wide) == (2, 4)


def test_even_gray_is_black():
    assert not strength(halves(200, 200)).any()


def test_invert():
    dark = softedge(FRAMES[0], SoftedgeSettings(invert=True))
    assert np.array_equal(dark, 255 - softedge(FRAMES[0], SoftedgeSettings()))
    assert dark.min() < 100


@given(counts=COUNTS)
@settings(max_examples=10, deadline=None)
def test_a_cut_changes_nothing(counts):
    before = FRAMES.copy()
    annotator = make_annotator("softedge", {}, Canvas(48, 64))
    expected = [softedge(frame, SoftedgeSettings()) for frame in FRAMES]
    assert np.array_equal(cut(annotator, FRAMES, counts), expected)
    assert np.array_equal(FRAMES, before)
    assert not np.array_equal(expected[0], expected[1])


def test_what_it_says_of_itself():
    info = load_annotator("softedge")
    assert (info.makes, info.reads, info.state) == ("control", "frames", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sigma": 0}, "controls.annotators.softedge.sigma: must be greater than or equal to 0.3, not 0"),
        ({"contrast": 256}, "controls.annotators.softedge.contrast: must be less than or equal to 255, not 256"),
        (
            {"contrast": "much"},
            "controls.annotators.softedge.contrast: must be a valid number, unable to parse string as a number, not 'much'",
        ),
        ({"sigmas": 1}, "controls.annotators.softedge.sigmas: unknown key; did you mean 'sigma'?"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(SettingsError) as caught:
        make_annotator("softedge", options, Canvas(48, 64))
    assert str(caught.value) == text
