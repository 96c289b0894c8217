from __future__ import annotations

import numpy as np
import pytest
from annotators.cuts import COUNTS, cut, moving
from golden_annotators import golden
from hypothesis import given, settings

from vace_adapt.annotators.find import load_annotator, make_annotator
from vace_adapt.annotators.label_colours import label_colour
from vace_adapt.annotators.layout_track import LayoutTrack, outline
from vace_adapt.contract import Canvas
from vace_adapt.errors import AnnotatorNotFound, InputError, SettingsError

FRAMES = moving(7)
PATH = [{"frame": 0, "box": [0.1, 0.2, 0.5, 0.6]}, {"frame": 6, "box": [0.4, 0.3, 0.9, 0.9]}]
BOX = {"annotator": "mask_box", "options": {"path": PATH}}


def made(**options):
    return make_annotator("layout_track", {"mask": BOX, **options}, Canvas(48, 64))


class Brightest:
    """Masks the frame's bright pixels; says when it is paused."""

    pauses = 0

    def __call__(self, frames, start):
        return np.where(frames[..., 0] > 140, 255, 0).astype(np.uint8)

    def pause(self):
        self.pauses += 1


def test_contours_are_vaces_own():
    case = golden("layout")
    before = case["input.masks"].copy()
    pictures = [outline(mask, (0, 0, 0), 3) for mask in case["input.masks"]]
    assert np.array_equal(pictures, case["output.mask_contours"])
    assert not np.array_equal([outline(mask, (0, 0, 0), 2) for mask in before], case["output.mask_contours"])
    assert np.array_equal(case["input.masks"], before)


def test_a_box():
    mask = np.zeros((20, 30), np.uint8)
    mask[5:11, 8:20] = 255
    mask[7:9, 11:14] = 0  # a hole is no outer contour
    expected = np.full((20, 30, 3), 255, np.uint8)
    expected[5:11, 8:20] = 200, 10, 0
    expected[6:10, 9:19] = 255
    assert np.array_equal(outline(mask, (200, 10, 0), 1), expected)


def test_every_part_has_its_own_outline():
    mask = np.zeros((20, 30), np.uint8)
    mask[2:6, 2:6] = mask[12:16, 20:24] = 255
    assert ((outline(mask, (0, 0, 0), 1) == 0).all(axis=-1)).sum() == 2 * 12


def test_no_object_is_white():
    assert (outline(np.zeros((20, 30), np.uint8), (0, 0, 0), 3) == 255).all()


def test_the_mask_annotator_is_asked():
    masks = make_annotator("mask_box", {"path": PATH}, Canvas(48, 64))(FRAMES, 0)
    assert np.array_equal(made()(FRAMES, 0), [outline(mask, (0, 0, 0), 3) for mask in masks])
    assert np.array_equal(made()(FRAMES[2:], 2), [outline(mask, (0, 0, 0), 3) for mask in masks[2:]])
    assert not np.array_equal(masks[2], masks[3])


def test_colours_and_thickness():
    mask = make_annotator("mask_box", {"path": PATH}, Canvas(48, 64))(FRAMES[:1], 0)[0]
    for options, colour in [
        ({"label": "cat"}, label_colour("cat")),
        ({"colour": [255, 0, 9]}, (255, 0, 9)),
        ({"colour": [255, 0, 9], "label": "cat"}, (255, 0, 9)),
    ]:
        assert np.array_equal(made(**options)(FRAMES[:1], 0)[0], outline(mask, colour, 3))
    assert np.array_equal(made(thickness=1)(FRAMES[:1], 0)[0], outline(mask, (0, 0, 0), 1))


def test_a_pause_is_passed_on():
    masks = Brightest()
    LayoutTrack(masks, (0, 0, 0), 3).pause()
    assert masks.pauses == 1


@given(counts=COUNTS)
@settings(max_examples=10, deadline=None)
def test_a_cut_changes_nothing(counts):
    before = FRAMES.copy()
    whole = LayoutTrack(Brightest(), (0, 0, 0), 1)(FRAMES, 0)
    assert np.array_equal(cut(LayoutTrack(Brightest(), (0, 0, 0), 1), FRAMES, counts), whole)
    assert np.array_equal(FRAMES, before)
    assert not np.array_equal(whole[0], whole[1])


def test_a_cut_changes_nothing_for_a_tracker():
    options = {"mask": {"annotator": "mask_track", "options": {"box": [0.2, 0.2, 0.7, 0.7], "tracker": "kcf"}}}
    whole = made(**options)(FRAMES, 0)
    assert np.array_equal(cut(made(**options), FRAMES, [1, 3, 1]), whole)
    assert not np.array_equal(whole[0], whole[-1])


def test_what_it_says_of_itself():
    info = load_annotator("layout_track")
    assert (info.makes, info.reads) == ("control", "frames")
    assert info.state == "that of the annotator that finds the object"


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"mask": {"annotator": "gray"}},
            InputError,
            "annotator 'layout_track': mask.annotator must make masks, 'gray' makes control pictures",
        ),
        (
            {"mask": {"annotator": "layout_track", "options": {"mask": BOX}}},
            InputError,
            "annotator 'layout_track': mask.annotator must make masks, 'layout_track' makes control pictures",
        ),
        ({"mask": {"annotator": "mask_bocks"}}, AnnotatorNotFound, "no annotator 'mask_bocks' (installed: "),
        ({"mask": {"annotator": "mask_box"}}, SettingsError, "controls.annotators.mask_box: give either box or path"),
        ({"mask": {}}, SettingsError, "controls.annotators.layout_track.mask.annotator: is missing"),
        ({"mask": "mask_box"}, SettingsError, "controls.annotators.layout_track.mask: must be a section with the keys annotator, options, not 'mask_box'"),
        ({"color": [0, 0, 0]}, SettingsError, "controls.annotators.layout_track.color: unknown key; did you mean 'colour'?"),
        ({"thickness": 101}, SettingsError, "controls.annotators.layout_track.thickness: must be less than or equal to 100, not 101"),
    ],
)  # fmt: skip
def test_wrong_options(options, kind, text):
    with pytest.raises(kind) as caught:
        made(**options)
    assert str(caught.value).startswith(text)
