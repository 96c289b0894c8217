from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from annotators.tiny_models import cut, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from vace_adapt.annotators import pose_mediapipe
from vace_adapt.annotators.find import make_annotator
from vace_adapt.annotators.pose_mediapipe import FACE, holistic_person
from vace_adapt.annotators.skeleton import SkeletonSettings, people_picture
from vace_adapt.contract import Canvas
from vace_adapt.errors import InputError, SettingsError

CANVAS = Canvas(64, 96)
FRAMES = scene(4, 64, 96)

OPENPOSE = ["nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear"]  # fmt: skip
MEDIAPIPE = ["nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer", "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel", "left_foot_index", "right_foot_index"]  # fmt: skip


def landmarks(count, seed):
    points = np.random.default_rng(seed).uniform(0.1, 0.9, (count, 3))
    return SimpleNamespace(landmark=[SimpleNamespace(x=x, y=y, visibility=score) for x, y, score in points])


def found(seed=0, **changes):
    """As Holistic answers, with random numbers."""
    parts = {
        "pose": landmarks(33, seed),
        "left_hand": landmarks(21, seed + 1),
        "right_hand": landmarks(21, seed + 2),
        "face": landmarks(468, seed + 3),
    }
    return SimpleNamespace(**{f"{name}_landmarks": part for name, part in {**parts, **changes}.items()})


def places(part):
    return [[point.x, point.y] for point in part.landmark]


class FakeHolistic:
    """Answers with numbers that depend on the frame alone; remembers how it was made."""

    def __init__(self, **options):
        type(self).options = options

    def process(self, frame):
        assert (frame.shape, frame.dtype, frame.flags.c_contiguous) == ((64, 96, 3), np.uint8, True)
        nobody = not frame.any()
        return found(int(frame.astype(int).sum()), **({"pose": None} if nobody else {}))


@pytest.fixture
def fake(monkeypatch):
    name = "mediapipe"
    for part in ("", ".python", ".solutions", ".holistic"):
        name += part
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules[name].Holistic = FakeHolistic
    return FakeHolistic


def make(**options):
    return make_annotator("pose_mediapipe", options, CANVAS)


def test_the_body():
    given = found()
    body = holistic_person(given, hands=False, face=False).body
    for name in OPENPOSE:
        if name != "neck":
            point = given.pose_landmarks.landmark[MEDIAPIPE.index(name)]
            assert body[OPENPOSE.index(name)].tolist() == [point.x, point.y, point.visibility]
    left, right = body[OPENPOSE.index("left_shoulder")], body[OPENPOSE.index("right_shoulder")]
    assert np.array_equal(body[1], [*(left[:2] + right[:2]) / 2, min(left[2], right[2])])


def test_hands_and_face():
    given = found()
    person = holistic_person(given, hands=True, face=True)
    assert person.hands[0, :, :2].tolist() == places(given.left_hand_landmarks)
    assert person.hands[1, :, :2].tolist() == places(given.right_hand_landmarks)
    assert person.face[:, :2].tolist() == [places(given.face_landmarks)[i] for i in FACE]
    assert (person.hands[..., 2] == 1).all()
    assert (person.face[:, 2] == 1).all()


def test_what_is_not_wanted_or_not_found():
    person = holistic_person(found(), hands=False, face=False)
    assert person.hands is person.face is None
    person = holistic_person(found(left_hand=None, face=None), hands=True, face=True)
    assert person.face is None
    assert [hand.any() for hand in person.hands] == [False, True]
    assert holistic_person(found(pose=None), hands=True, face=True) is None


def test_the_face_is_68_points_of_the_mesh():
    assert len(FACE) == len(set(FACE)) == 68
    assert 0 <= min(FACE) <= max(FACE) < 468


def test_pictures(fake):
    before = FRAMES.copy()
    pictures = make(hands=True, threshold=0.5)(FRAMES, 0)
    for frame, picture in zip(FRAMES, pictures, strict=True):
        person = holistic_person(FakeHolistic().process(frame), hands=True, face=True)
        assert np.array_equal(picture, people_picture([person], 64, 96, SkeletonSettings(threshold=0.5)))
    assert not np.array_equal(pictures, make(threshold=0.5)(FRAMES, 0))
    assert not np.array_equal(pictures, make(hands=True, face=False, threshold=0.5)(FRAMES, 0))
    assert (before == FRAMES).all()


def test_nobody_is_black(fake):
    assert not make()(np.zeros_like(FRAMES), 0).any()


def test_no_tracking_and_the_model_of_the_wheel(fake):
    make(detection_threshold=0.7)
    assert fake.options == {"static_image_mode": True, "model_complexity": 1, "min_detection_confidence": 0.7}


@given(counts=st.lists(st.integers(1, 3), max_size=4))
@settings(max_examples=5, deadline=None)
def test_a_cut_changes_nothing(counts):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(pose_mediapipe, "_holistic", lambda threshold: FakeHolistic())
        assert np.array_equal(cut(make(), FRAMES, counts), make()(FRAMES, 0))


def test_without_mediapipe(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == (
        "annotator 'pose_mediapipe' needs pip install 'vace-adapt[mediapipe]' (and pip install --no-deps "
        "mediapipe==0.10.21: No module named 'mediapipe.python'; 'mediapipe' is not a package)"
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"detection_threshold": 2},
            "controls.annotators.pose_mediapipe.detection_threshold: must be less than or equal to 1, not 2",
        ),
        ({"hand": True}, "controls.annotators.pose_mediapipe.hand: unknown key; did you mean 'hands'?"),
    ],
)
def test_settings(options, text):
    with pytest.raises(SettingsError) as caught:
        make(**options)
    assert str(caught.value) == text


def test_who_it_is():
    info = pose_mediapipe.vace_annotator()
    assert (info.makes, info.reads, info.state, info.weights, info.extra) == (
        "control",
        "frames",
        "",
        None,
        "mediapipe",
    )


def test_with_mediapipe_itself():
    holistic = pytest.importorskip(
        "mediapipe.python.solutions.holistic", reason="needs pip install --no-deps mediapipe==0.10.21"
    )
    names = [point.name.lower() for point in holistic.PoseLandmark]
    assert names == MEDIAPIPE
    assert not make()(np.zeros_like(FRAMES), 0).any()
