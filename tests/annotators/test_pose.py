from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from annotators.tiny_models import cut, save_depth_anything, scene
from annotators.tiny_pose import save_rt_detr, save_vitpose
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForObjectDetection, RTDetrImageProcessorPil, VitPoseForPoseEstimation
from transformers.models.vitpose.image_processing_pil_vitpose import VitPoseImageProcessorPil

from vace_adapt.annotators import pose
from vace_adapt.annotators.find import make_annotator
from vace_adapt.annotators.keypoints import Person, from_coco
from vace_adapt.annotators.skeleton import SkeletonSettings, people_picture
from vace_adapt.contract import Canvas
from vace_adapt.errors import CheckpointError, InputError, SettingsError

CANVAS = Canvas(64, 96)
FRAMES = scene(3, 64, 96)
STYLE = {"threshold": 0.5, "short_side": 256}
"""Of the pictures here; half the scores of the random models are above it."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other are most of the time of models this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(save_vitpose(tmp_path_factory.mktemp("vitpose")))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return str(save_rt_detr(tmp_path_factory.mktemp("rt_detr")))


def make(weights, detector="none", **options):
    options = {"weights": weights, "detector": detector, "detector_threshold": 0.4, **STYLE, **options}
    return make_annotator("pose", options, CANVAS)


@torch.inference_mode()
def boxes_by_hand(detector, frame, threshold=0.4):
    """Left, top, width, height of what transformers calls label 0."""
    processor = RTDetrImageProcessorPil.from_pretrained(detector)
    outputs = AutoModelForObjectDetection.from_pretrained(detector)(**processor(images=frame, return_tensors="pt"))
    found = processor.post_process_object_detection(outputs, threshold=threshold, target_sizes=[(64, 96)])[0]
    boxes = found["boxes"][found["labels"] == 0].numpy()
    return np.stack([boxes[:, 0], boxes[:, 1], boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], axis=1)


@torch.inference_mode()
def picture_by_hand(weights, frame, boxes, **inputs):
    """A drawing of what transformers' post_process_pose_estimation gives."""
    processor = VitPoseImageProcessorPil.from_pretrained(weights)
    pixels = processor(images=frame, boxes=[boxes], return_tensors="pt")
    outputs = VitPoseForPoseEstimation.from_pretrained(weights)(**pixels, **inputs)
    people = []
    for found in processor.post_process_pose_estimation(outputs, boxes=[boxes])[0]:
        points = torch.cat([found["keypoints"], found["scores"][:, None]], dim=1).numpy().astype(np.float64)
        people.append(Person(from_coco(points / [96, 64, 1])))
    return people_picture(people, 64, 96, SkeletonSettings(**STYLE))


WHOLE_FRAME = np.array([[0, 0, 96, 64]], np.float32)


def test_one_person_in_the_whole_frame(weights):
    before = FRAMES.copy()
    pictures = make(weights)(FRAMES, 0)
    for frame, picture in zip(FRAMES, pictures, strict=True):
        assert np.array_equal(picture, picture_by_hand(weights, frame, WHOLE_FRAME))
    assert pictures.any(axis=(1, 2, 3)).all()
    assert not np.array_equal(pictures[0], pictures[1])
    assert (before == FRAMES).all()


def test_people_in_boxes(weights, detector):
    pictures = make(weights, detector)(FRAMES, 0)
    for frame, picture in zip(FRAMES, pictures, strict=True):
        boxes = boxes_by_hand(detector, frame)
        assert len(boxes) > 1
        assert np.array_equal(picture, picture_by_hand(weights, frame, boxes))
    assert not np.array_equal(pictures, make(weights)(FRAMES, 0))


def test_only_boxes_of_people_count(tmp_path, weights, detector):
    balls = shutil.copytree(detector, tmp_path / "balls")
    config = json.loads((balls / "config.json").read_text())
    config["id2label"] = {"0": "ball", "1": "Person"}
    (balls / "config.json").write_text(json.dumps(config))
    one, other = (find_boxes(folder, FRAMES[0]) for folder in (detector, str(balls)))
    assert len(one) > 0
    assert len(other) > 0
    assert not (one[:, None] == other).all(axis=2).any()


def find_boxes(detector, frame):
    return pose._detector(pose.PoseSettings(detector=detector, detector_threshold=0.4), CANVAS)(frame)


def test_nobody_is_black(weights, detector):
    assert not make(weights, detector, detector_threshold=0.9999)(FRAMES[:1], 0).any()


def test_boxes_of_less_than_a_pixel_do_not_count(detector):
    flat = FRAMES[0, :2]
    assert len(find_boxes(detector, np.repeat(flat, 32, axis=0))) > 0
    assert len(find_boxes(detector, flat)) == 0


def test_rt_detr_v2(tmp_path, weights):
    detector = str(save_rt_detr(tmp_path, version=2))
    made = make(weights, detector)(FRAMES[:1], 0)[0]
    assert np.array_equal(made, picture_by_hand(weights, FRAMES[0], boxes_by_hand(detector, FRAMES[0])))
    assert made.any()


def test_vitpose_plus_takes_its_experts_for_coco(tmp_path):
    weights = str(save_vitpose(tmp_path, experts=3))
    made = make(weights)(FRAMES[:1], 0)[0]
    expert = [picture_by_hand(weights, FRAMES[0], WHOLE_FRAME, dataset_index=torch.tensor([i])) for i in range(2)]
    assert np.array_equal(made, expert[0])
    assert not np.array_equal(made, expert[1])


def test_points_that_went_astray_are_not_drawn():
    places = torch.tensor([[48.0, 32.0]] * 17)
    places[0], places[9] = torch.tensor([1e30, 0]), torch.tensor([float("nan"), 0])
    person = pose._person({"keypoints": places, "scores": torch.ones(17)}, 64, 96)
    assert np.flatnonzero(person.body[:, 2] == 0).tolist() == [0, 7]
    assert np.isfinite(person.body).all()


@pytest.fixture(scope="module")
def two_annotators(weights, detector):
    return make(weights, detector), make(weights, detector)


@given(counts=st.lists(st.integers(1, 2), max_size=2))
@settings(max_examples=4, deadline=None)
def test_a_cut_changes_nothing(two_annotators, counts):
    one, other = two_annotators
    assert np.array_equal(cut(one, FRAMES, counts), other(FRAMES, 0))


def test_bfloat16(weights, detector):
    full, half = (
        pose._estimator(pose.PoseSettings(weights=weights, dtype=dtype), CANVAS)(FRAMES[0], WHOLE_FRAME)[0].body[:, 2]
        for dtype in ("float32", "bfloat16")
    )
    assert 0 < np.abs(full - half).max() < 0.1 * np.abs(full).max()
    assert make(weights, detector, dtype="bfloat16")(FRAMES[:1], 0).any()


def test_no_global_randomness(weights, detector):
    state = torch.random.get_rng_state()
    make(weights, detector)(FRAMES[:1], 0)
    assert torch.equal(torch.random.get_rng_state(), state)


def refused(weights, detector="none"):
    with pytest.raises(CheckpointError) as caught:
        make(weights, detector)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_weights_that_are_not_there(weights):
    text = (
        "annotator 'pose': {0} '{1}' is neither a folder nor in the local Hugging Face cache: give a folder with "
        "controls.annotators.pose.{0}=PATH, or allow fetching it with weights.download=true"
    )
    assert refused(pose.WEIGHTS) == text.format("weights", pose.WEIGHTS)
    assert refused(weights, pose.DETECTOR) == text.format("detector", pose.DETECTOR)


def test_other_models_are_refused(tmp_path, weights, detector):
    depth = save_depth_anything(tmp_path)
    assert (
        refused(str(depth)) == f"annotator 'pose': {depth} holds a model of type 'depth_anything', expected 'vitpose'"
    )
    assert refused(weights, weights) == (
        f"annotator 'pose': {weights} holds a model of type 'vitpose', expected 'rt_detr' or 'rt_detr_v2'"
    )


def test_a_detector_of_other_things(tmp_path, weights):
    folder = save_rt_detr(tmp_path, labels=("cat", "ball"))
    assert (
        refused(weights, str(folder)) == f"annotator 'pose': {folder} finds no people: none of its labels is 'person'"
    )


def test_joints_of_another_body(tmp_path):
    folder = save_vitpose(tmp_path, labels=21)
    assert refused(str(folder)) == f"annotator 'pose': {folder} finds 21 joints, expected COCO's 17"


def test_without_scipy(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(InputError) as caught:
        make(weights)
    assert str(caught.value).startswith(
        "annotator 'pose' needs pip install 'vace-adapt[pose]' (import of scipy.ndimage "
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weights": ""}, "controls.annotators.pose.weights: String should have at least 1 character, not ''"),
        ({"detector_threshold": 1}, "controls.annotators.pose.detector_threshold: must be less than 1, not 1"),
        ({"dtype": "float16"}, "controls.annotators.pose.dtype: must be 'float32' or 'bfloat16', not 'float16'"),
        ({"hands": True}, "controls.annotators.pose.hands: unknown key"),
    ],
)
def test_settings(options, text):
    with pytest.raises(SettingsError) as caught:
        make_annotator("pose", options, CANVAS)
    assert str(caught.value) == text


@pytest.mark.parametrize("name", ["pose", "pose_json", "pose_mediapipe"])
def test_asking_who_it_is_imports_nothing_heavy(name):
    code = (
        f"import sys; from vace_adapt.annotators import {name}; assert {name}.vace_annotator().name == {name!r}; "
        "print(sorted({'torch', 'transformers', 'huggingface_hub', 'scipy', 'mediapipe'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_who_it_is():
    info = pose.vace_annotator()
    assert (info.makes, info.reads, info.state, info.extra) == ("control", "frames", "", "pose")
    assert info.weights == pose.PoseSettings().weights
