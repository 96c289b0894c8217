from __future__ import annotations

import cv2
import numpy as np
import pytest
from golden_annotators import golden
from support import patch

from vace_adapt.annotators import skeleton
from vace_adapt.annotators.find import make_annotator
from vace_adapt.annotators.keypoints import Person, from_coco
from vace_adapt.annotators.skeleton import SkeletonSettings, draw_people, drawing_size, people_picture
from vace_adapt.contract import Canvas
from vace_adapt.errors import SettingsError

GOLDEN = golden("pose_drawing")
DETECT_SIZES = {"pose": (1024, 1536), "pose_body": (1024, 1536), "whole": (1024, 1536), "upright": (1728, 1024), "enlarged": (64, 128), "draw": (64, 96)}  # fmt: skip
PARTS = {"pose": "bf", "pose_body": "b", "whole": "bhf", "upright": "bf", "enlarged": "bhf"}

MUTANTS = {
    "limb order": patch(skeleton, "LIMBS", lambda limbs: limbs[::-1]),
    "limb colours": patch(skeleton, "COLOURS", lambda colours: colours[1:] + colours[:1]),
    "hand edges": patch(skeleton, "HAND_EDGES", lambda edges: edges[::-1]),
    "hand colours": patch(skeleton, "HAND_COLOURS", lambda colours: colours[1:] + colours[:1]),
    "hand points": patch(skeleton, "HAND_POINT", lambda colour: (0, 255, 0)),
    "stick": patch(skeleton, "STICK", lambda stick: 3),
    "brightness": patch(skeleton, "DIM", lambda dim: np.arange(256, dtype=np.uint8)),
    "direction of a limb": patch(
        skeleton, "_limb", lambda limb: lambda drawing, a, b, colour: limb(drawing, b, a, colour)
    ),
}


def upstream_people(call, frame, parts="bhf"):
    """COCO-WholeBody keypoints of a call: 17 body, 6 foot, 68 face, 21 left and 21 right hand points."""
    height, width = DETECT_SIZES[call]
    points = GOLDEN[f"input.{call}.{frame}.keypoints"].astype(np.float64) / [width, height]
    scores = GOLDEN[f"input.{call}.{frame}.scores"].astype(np.float64)
    people = []
    for person in np.concatenate([points, scores[..., None]], axis=2):
        hands = np.stack([person[91:112], person[112:133]])
        people.append(
            Person(from_coco(person[:17]), hands if "h" in parts else None, person[23:91] if "f" in parts else None)
        )
    return people


def a_person(x=0.5, score=1.0):
    """Upright, arms down; every number is a fraction."""
    column = np.array([0, 0, -1, -1, -1, 1, 1, 1, -0.5, -0.5, -0.5, 0.5, 0.5, 0.5, -0.2, 0.2, -0.4, 0.4])
    row = np.array([2, 3, 3, 4.5, 6, 3, 4.5, 6, 6, 7.5, 9, 6, 7.5, 9, 1.8, 1.8, 2, 2])
    return Person(np.stack([x + column / 12, row / 10, np.full(18, score)], axis=1))


@pytest.mark.parametrize("call", sorted(PARTS))
def test_pictures_are_vaces(call):
    expected = GOLDEN[f"output.{call}"]
    style = SkeletonSettings(short_side=64) if call == "enlarged" else SkeletonSettings()
    for i, picture in enumerate(expected):
        people = upstream_people(call, i, PARTS[call])
        assert np.array_equal(people_picture(people, *picture.shape[:2], style), picture)


@pytest.mark.parametrize(("output", "parts"), [("draw", "bhf"), ("draw_body", "b")])
def test_drawings_are_vaces(output, parts):
    made = draw_people(upstream_people("draw", 0, parts), 64, 96, 0.3)
    assert np.array_equal(made, GOLDEN[f"output.{output}"][0])


@pytest.mark.parametrize(("output", "part"), [("draw_hand", "h"), ("draw_face", "f")])
def test_hands_and_faces_are_vaces(output, part):
    people = [Person(np.zeros((18, 3)), person.hands, person.face) for person in upstream_people("draw", 0, part)]
    assert np.array_equal(draw_people(people, 64, 96, 0.3), GOLDEN[f"output.{output}"][0])


@pytest.mark.parametrize("mutant", MUTANTS)
def test_what_vaces_drawings_tell_apart(mutant, monkeypatch):
    MUTANTS[mutant](monkeypatch)
    made = draw_people(upstream_people("draw", 0), 64, 96, 0.3)
    assert not np.array_equal(made, GOLDEN["output.draw"][0])


def test_sizes_of_the_drawing():
    for call, size in DETECT_SIZES.items():
        if call in PARTS:
            short_side = 64 if call == "enlarged" else 1024
            assert drawing_size(*GOLDEN[f"output.{call}"].shape[1:3], short_side) == size
    assert drawing_size(480, 832, 1024) == (1024, 1792)


def test_colours():
    vace, openpose = (
        people_picture([a_person()], 256, 256, SkeletonSettings(colours=colours, short_side=256))
        for colours in ("vace", "openpose")
    )
    right_shoulder = (76, 106)
    assert openpose[right_shoulder].tolist() == [255, 170, 0]
    assert vace[right_shoulder].tolist() == [0, 170, 255]
    assert np.array_equal(vace, openpose[..., ::-1])


def test_nobody_is_black():
    assert not people_picture([], 64, 96, SkeletonSettings()).any()
    assert not people_picture([a_person(score=0.0)], 64, 96, SkeletonSettings(threshold=0)).any()


def test_threshold():
    drawn = {
        score: people_picture([a_person(score=score)], 64, 96, SkeletonSettings(threshold=0.5)).any()
        for score in (0.5, 0.51)
    }
    assert drawn == {0.5: False, 0.51: True}


def test_a_limb_needs_both_its_points():
    missing = a_person()
    missing.body[3] = 0
    made = draw_people([missing], 256, 256, 0.3)
    whole = draw_people([a_person()], 256, 256, 0.3)
    upper, lower = (95, 106), (135, 106)  # between shoulder, elbow and wrist of the right arm
    assert whole[upper].any()
    assert whole[lower].any()
    assert not made[upper].any()
    assert not made[lower].any()


def test_short_side_is_how_thick_it_looks():
    lit = {
        side: (people_picture([a_person()], 256, 256, SkeletonSettings(short_side=side)) > 60).sum()
        for side in (256, 1024)
    }
    assert lit[256] > 2 * lit[1024]


def test_points_outside_are_cut_off():
    beyond = a_person(x=1.0)
    made = draw_people([beyond], 128, 128, 0.3)
    wide = draw_people([Person(beyond.body * [0.5, 1, 1])], 128, 256, 0.3)
    assert np.array_equal(made, wide[:, :128])


def test_the_largest_coordinates_can_be_drawn():
    far = a_person()
    far.body[4, :2] = 100, -100
    assert draw_people([far], 4096, 4096, 0.3).any()


def test_dim_is_the_official_product():
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(cv2.LUT(picture, skeleton.DIM), (picture * 0.6).astype(np.uint8))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threshold": 1}, "controls.annotators.pose.threshold: must be less than 1, not 1"),
        ({"threshold": -0.1}, "controls.annotators.pose.threshold: must be greater than or equal to 0, not -0.1"),
        ({"colours": "bgr"}, "controls.annotators.pose.colours: must be 'vace' or 'openpose', not 'bgr'"),
        ({"short_side": 63}, "controls.annotators.pose.short_side: must be greater than or equal to 64, not 63"),
    ],
)
def test_settings(options, text):
    with pytest.raises(SettingsError) as caught:
        make_annotator("pose", options, Canvas(64, 96))
    assert str(caught.value) == text
