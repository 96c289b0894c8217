from __future__ import annotations

import json

import numpy as np
import pytest
from annotators.tiny_models import cut
from hypothesis import given, settings
from hypothesis import strategies as st

from vace_adapt.annotators import pose_json
from vace_adapt.annotators.find import make_annotator
from vace_adapt.annotators.keypoints import Person
from vace_adapt.annotators.skeleton import SkeletonSettings, people_picture
from vace_adapt.contract import Canvas
from vace_adapt.errors import InputError, SettingsError

CANVAS = Canvas(64, 96)
GRAY = np.full((6, 64, 96, 3), 128, np.uint8)
COUNTS = [2, 0, 1, 1]
"""People of each frame of the file."""


def points(seed, count):
    return np.random.default_rng(seed).uniform([0.1, 0.1, 0.5], [0.9, 0.9, 1], (count, 3))


def person(seed):
    return Person(points(seed, 18), np.stack([points(seed + 100, 21), points(seed + 200, 21)]), points(seed + 300, 68))


def people(frame):
    return [person(10 * frame + i) for i in range(COUNTS[frame])]


def in_json(someone, height=200, width=300):
    def numbers(part):
        return (part * [width, height, 1]).ravel().tolist()

    return {
        "pose_keypoints_2d": numbers(someone.body),
        "hand_left_keypoints_2d": numbers(someone.hands[0]),
        "hand_right_keypoints_2d": numbers(someone.hands[1]),
        "face_keypoints_2d": numbers(someone.face),
    }


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("pose_json") / "poses.json"
    frames = [
        {"people": [in_json(someone) for someone in people(i)], "canvas_height": 200, "canvas_width": 300}
        for i in range(len(COUNTS))
    ]
    file.write_text(json.dumps(frames))
    return file


def make(path, **options):
    return make_annotator("pose_json", {"path": str(path), **options}, CANVAS)


def drawn(frame, hands=False, face=True, **style):
    wanted = [
        Person(someone.body, someone.hands if hands else None, someone.face if face else None)
        for someone in people(frame)
    ]
    return people_picture(wanted, 64, 96, SkeletonSettings(**style))


def test_each_frame_shows_its_people(path):
    pictures = make(path)(GRAY, 0)
    assert (pictures.shape, pictures.dtype) == (GRAY.shape, np.uint8)
    for i in range(len(COUNTS)):
        assert np.array_equal(pictures[i], drawn(i))
    assert [picture.any() for picture in pictures] == [True, False, True, True, False, False]
    assert (GRAY == 128).all()


def test_frames_go_by_their_number(path):
    assert np.array_equal(make(path)(GRAY[:2], 2), make(path)(GRAY, 0)[2:4])


@pytest.mark.parametrize(
    "options", [{"hands": True}, {"face": False}, {"colours": "openpose"}, {"threshold": 0.8}, {"short_side": 64}]
)
def test_options(path, options):
    picture = make(path, **options)(GRAY[:1], 0)[0]
    assert np.array_equal(picture, drawn(0, **options))
    assert not np.array_equal(picture, drawn(0))


def test_size(path):
    half = make(path, size=[400, 600])(GRAY[:1], 0)[0]
    assert half[:34, :50].any()
    assert not half[34:].any()
    assert not half[:, 50:].any()


@given(counts=st.lists(st.integers(1, 4), max_size=5))
@settings(max_examples=10, deadline=None)
def test_a_cut_changes_nothing(path, counts):
    assert np.array_equal(cut(make(path), GRAY, counts), make(path)(GRAY, 0))


def test_a_pause_changes_nothing(path):
    annotator = make(path)
    annotator(GRAY[:1], 0)
    annotator.pause()
    assert np.array_equal(annotator(GRAY[:2], 2), make(path)(GRAY[:2], 2))


def test_a_wrong_file_is_refused_when_it_is_made(tmp_path):
    with pytest.raises(InputError) as caught:
        make(tmp_path / "none.json")
    assert str(caught.value) == f"keypoints: no file or folder '{tmp_path / 'none.json'}'"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "controls.annotators.pose_json.path: is missing"),
        ({"path": 3}, "controls.annotators.pose_json.path: must be a path, not 3"),
        (
            {"path": "a", "size": [0, 9]},
            "controls.annotators.pose_json.size.0: must be greater than or equal to 1, not 0",
        ),
        ({"path": "a", "hand": True}, "controls.annotators.pose_json.hand: unknown key; did you mean 'hands'?"),
    ],
)
def test_settings(options, text):
    with pytest.raises(SettingsError) as caught:
        make_annotator("pose_json", options, CANVAS)
    assert str(caught.value) == text


def test_who_it_is():
    info = pose_json.vace_annotator()
    assert (info.makes, info.reads, info.state, info.weights, info.extra) == ("control", "nothing", "", None, None)
