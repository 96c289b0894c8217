from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from annotators.tiny_models import cut, one_thread, save_depth_anything, save_dpt, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForDepthEstimation, DPTImageProcessorPil

from vace_adapt.annotators.depth import Depth, gray_levels
from vace_adapt.annotators.find import make_annotator
from vace_adapt.contract import Canvas
from vace_adapt.errors import CheckpointError, SettingsError

CANVAS = Canvas(64, 96)
FRAMES = scene(7, 64, 96)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with one_thread():
        yield str(save_depth_anything(tmp_path_factory.mktemp("depth_anything")))


@pytest.fixture(scope="module")
def whole(weights):
    """The pictures of all frames in one call."""
    return make(weights)(FRAMES, 0)


def make(weights, **options):
    return make_annotator("depth", {"weights": weights, **options}, CANVAS)


def inverse_depths(weights, frames, **size):
    """What transformers makes of frames, one at a time: float32 [T, H, W]."""
    processor = DPTImageProcessorPil.from_pretrained(weights)
    model = AutoModelForDepthEstimation.from_pretrained(weights)
    made = []
    for frame in frames:
        outputs = model(**processor(images=frame, return_tensors="pt", **size))
        made += processor.post_process_depth_estimation(outputs, target_sizes=[frame.shape[:2]])
    return [depths["predicted_depth"].numpy() for depths in made]


def of_its_own_range(values):
    """VACE's rule for one frame."""
    values = values - values.min()
    return (values / values.max() * 255).clip(0, 255).astype(np.uint8)


def estimates(*pictures):
    """An annotator that is told the depths, and frames to call it with."""
    told = iter(np.array(pictures, np.float32))
    return (lambda frame: next(told)), np.zeros((len(pictures), 1, len(pictures[0][0]), 3), np.uint8)


def test_pictures(weights):
    before = FRAMES.copy()
    pictures = make(weights)(FRAMES, 0)
    assert pictures.shape == FRAMES.shape
    assert pictures.dtype == np.uint8
    assert (pictures == pictures[..., :1]).all()
    assert pictures[0].min() == 0
    assert pictures[0].max() == 255
    assert len(np.unique(pictures[0])) > 50
    assert (before == FRAMES).all()


def test_range_frame_is_vaces_rule(weights):
    pictures = make(weights, range="frame")(FRAMES, 0)
    expected = [of_its_own_range(depths) for depths in inverse_depths(weights, FRAMES)]
    assert np.array_equal(pictures[..., 0], expected)
    assert not np.array_equal(pictures, make(weights)(FRAMES, 0))


def test_size(weights):
    size = {"size": {"height": 42, "width": 42}}
    expected = of_its_own_range(inverse_depths(weights, FRAMES[:1], **size)[0])
    assert np.array_equal(make(weights, size=42)(FRAMES[:1], 0)[0, ..., 0], expected)
    assert not np.array_equal(make(weights)(FRAMES[:1], 0)[0, ..., 0], expected)


def test_midas(tmp_path):
    weights = str(save_dpt(tmp_path))
    expected = of_its_own_range(inverse_depths(weights, FRAMES[:1])[0])
    assert np.array_equal(make(weights)(FRAMES[:1], 0)[0, ..., 0], expected)


@given(counts=st.lists(st.integers(1, 4), max_size=5))
@settings(max_examples=6, deadline=None)
def test_a_cut_changes_nothing(weights, whole, counts):
    assert np.array_equal(cut(make(weights), FRAMES, counts), whole)


def test_near_is_white():
    assert gray_levels(np.float32([[1, 2, 3]]), np.float32(1), np.float32(3)).tolist() == [[0, 127, 255]]


def test_beyond_the_range():
    assert gray_levels(np.float32([[0, 5]]), np.float32(1), np.float32(3)).tolist() == [[0, 255]]


@pytest.mark.filterwarnings("error")
def test_a_flat_frame_is_black():
    estimate, frames = estimates([[4, 4]], [[4, 8]])
    pictures = Depth(estimate, 0.5)(frames, 0)
    assert pictures[..., 0].tolist() == [[[0, 0]], [[0, 255]]]


def test_the_running_range():
    given = [[[0, 10, 20]], [[0, 10, 40]], [[10, 10, 40]]]
    estimate, frames = estimates(*given)
    pictures = Depth(estimate, 0.25)(frames, 0)[..., 0]
    ranges = [(0, 20), (0, 25), (2.5, 28.75)]  # each end moves a quarter of the way to the frame's own
    for picture, values, (far, near) in zip(pictures, given, ranges, strict=True):
        assert picture.tolist() == [[min(255, int((value - far) / (near - far) * 255)) for value in values[0]]]


def test_rate_1_is_each_frames_own_range(weights):
    assert np.array_equal(make(weights, rate=1.0)(FRAMES, 0), make(weights, range="frame")(FRAMES, 0))


def test_one_pixel_does_not_make_the_others_flicker():
    given = [[[0, 10, 20]], [[0, 10, 40]]]
    levels = {}
    for rate in (0.05, 1):
        estimate, frames = estimates(*given)
        levels[rate] = Depth(estimate, rate)(frames, 0)[:, 0, 1, 0].tolist()
    assert levels == {0.05: [127, 121], 1: [127, 63]}


def test_a_pause_keeps_the_range(weights):
    annotator, other = make(weights), make(weights)
    annotator(FRAMES[:3], 0)
    other(FRAMES[:3], 0)
    annotator.pause()
    assert np.array_equal(annotator(FRAMES[3:], 9), other(FRAMES[3:], 3))
    assert not np.array_equal(other(FRAMES[3:], 3), make(weights)(FRAMES[3:], 3))


def test_bfloat16(weights):
    full, half = (make(weights, dtype=dtype)(FRAMES, 0).astype(int) for dtype in ("float32", "bfloat16"))
    assert 0 < np.abs(full - half).mean() < 6


def test_metric_depth_is_refused(tmp_path):
    folder = save_depth_anything(tmp_path, depth_estimation_type="metric", max_depth=20)
    with pytest.raises(CheckpointError) as caught:
        make(str(folder))
    assert str(caught.value) == f"annotator 'depth': {folder} predicts metres, expected a model of relative depth"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"range": "video"}, "controls.annotators.depth.range: must be 'running' or 'frame', not 'video'"),
        ({"rate": 0}, "controls.annotators.depth.rate: must be greater than 0, not 0"),
        ({"size": 16}, "controls.annotators.depth.size: must be greater than or equal to 32, not 16"),
        ({"dtype": "float16"}, "controls.annotators.depth.dtype: must be 'float32' or 'bfloat16', not 'float16'"),
        ({"seize": 1}, "controls.annotators.depth.seize: unknown key; did you mean 'size'?"),
    ],
)
def test_settings(options, text):
    with pytest.raises(SettingsError) as caught:
        make("weights", **options)
    assert str(caught.value) == text


def test_weights_that_are_not_there():
    with pytest.raises(
        CheckpointError, match="annotator 'depth': weights 'depth-anything/Depth-Anything-V2-Small-hf' is neither"
    ):
        make_annotator("depth", {}, CANVAS)


@pytest.mark.parametrize(("name", "makes"), [("depth", "control"), ("mask_sam2", "mask"), ("mask_grounding", "mask")])
def test_asking_who_it_is_imports_nothing_heavy(name, makes):
    code = (
        f"import sys; from vace_adapt.annotators import {name}; info = {name}.vace_annotator(); "
        "print(info.name, info.makes, info.reads, info.weights == info.settings.model_fields['weights'].default); "
        "print(sorted({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{name} {makes} frames True\n[]\n"


def test_no_gradients_and_no_global_randomness(weights):
    state = torch.random.get_rng_state()
    make(weights)(FRAMES[:2], 0)
    assert torch.equal(torch.random.get_rng_state(), state)
