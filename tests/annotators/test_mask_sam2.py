from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from annotators.tiny_models import MEAN, SAM2_SIZE, STD, cut, held, one_thread, save_depth_anything, save_sam2, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import Sam2VideoInferenceSession, Sam2VideoModel, Sam2VideoProcessor

from vace_adapt.annotators.find import make_annotator
from vace_adapt.annotators.sam2_tracker import Sam2Tracker, load_tracker
from vace_adapt.contract import Canvas
from vace_adapt.errors import CheckpointError, InputError, SettingsError

CANVAS = Canvas(48, 64)
FRAMES = scene(9, 48, 64)
BOX = (0.0625, 0.25, 0.5, 0.625)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with one_thread():
        yield str(save_sam2(tmp_path_factory.mktemp("sam2")))


@pytest.fixture(scope="module")
def whole(weights):
    """The pictures of all frames in one call."""
    return make(weights)(FRAMES, 0)


def make(weights, canvas=CANVAS, **options):
    return make_annotator("mask_sam2", {"weights": weights, **(options or {"box": BOX})}, canvas)


def save_mask(path, height, width):
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    Image.fromarray(mask).save(path)
    return mask > 0


def by_hand(weights, frames, **inputs):
    """Masks by the streaming session of transformers, which keeps everything. Frames have the model's own size."""
    model = Sam2VideoModel.from_pretrained(weights)
    processor = Sam2VideoProcessor.__new__(Sam2VideoProcessor)  # its constructor wants a processor of torchvision
    processor.target_size, processor.point_pad_value = SAM2_SIZE, -10
    session = processor.init_video_session()
    processor.add_inputs_to_inference_session(session, 0, 1, original_size=frames.shape[1:3], **inputs)
    masks = []
    for frame in frames:
        pixels = (torch.from_numpy(frame).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        found = model(inference_session=session, frame=pixels.permute(2, 0, 1)[None])
        logits = F.interpolate(found.pred_masks, frame.shape[:2], mode="bilinear", align_corners=False)
        masks.append((logits[0, 0] > 0).numpy())
    return np.stack(masks)


def test_masks(weights):
    before = FRAMES.copy()
    masks = make(weights)(FRAMES, 0)
    assert masks.shape == FRAMES.shape[:3]
    assert masks.dtype == np.uint8
    assert set(np.unique(masks)) == {0, 255}
    assert (masks[0] != masks[1]).any()
    assert (before == FRAMES).all()


@pytest.mark.parametrize(
    ("prompt", "inputs"),
    [
        ({"box": BOX}, {"input_boxes": [[[8.0, 32.0, 64.0, 80.0]]]}),
        ({"point": (0.25, 0.5)}, {"input_points": [[[[32.0, 64.0]]]], "input_labels": [[[1]]]}),
    ],
)
def test_masks_are_those_of_transformers(weights, prompt, inputs):
    frames = scene(20, SAM2_SIZE, SAM2_SIZE)  # longer than the memory, which is 15 frames
    masks = make(weights, Canvas(SAM2_SIZE, SAM2_SIZE), **prompt)(frames, 0)
    expected = by_hand(weights, frames, **inputs)
    assert np.array_equal(masks == 255, expected)
    assert 0.02 < expected.mean() < 0.98
    other = make(weights, Canvas(SAM2_SIZE, SAM2_SIZE), point=(0.75, 0.25))(frames[:2], 0)
    assert not np.array_equal(other, masks[:2])


def test_a_mask_image(weights, tmp_path):
    mask = save_mask(tmp_path / "mask.png", SAM2_SIZE, SAM2_SIZE)
    frames = scene(20, SAM2_SIZE, SAM2_SIZE)
    masks = make(weights, Canvas(SAM2_SIZE, SAM2_SIZE), mask=tmp_path / "mask.png")(frames, 0)
    assert np.array_equal(masks == 255, by_hand(weights, frames, input_masks=mask))
    assert ((masks[0] == 255) & mask).sum() > 0.9 * ((masks[0] == 255) | mask).sum()


def test_a_mask_image_is_scaled_as_by_transformers(weights, tmp_path):
    mask = save_mask(tmp_path / "mask.png", 48, 64)
    processor = Sam2VideoProcessor.__new__(Sam2VideoProcessor)
    processor.target_size = SAM2_SIZE
    session = Sam2VideoInferenceSession(dtype=torch.float32)
    processor.process_new_mask_for_video_frame(session, 0, [1], mask)
    tracker = load_tracker("mask_sam2", weights, CANVAS, "float32")
    tracker.start([mask])
    assert torch.equal(tracker._session.mask_inputs_per_obj[0][0], session.mask_inputs_per_obj[0][0])


def test_frames_are_scaled_as_by_pillow(weights):
    tracker = load_tracker("mask_sam2", weights, CANVAS, "float32")
    frame = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    scaled = np.asarray(Image.fromarray(frame).resize((SAM2_SIZE, SAM2_SIZE), Image.Resampling.BILINEAR))
    expected = (torch.from_numpy(scaled.copy()).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    levels = (tracker._pixels(frame)[0].permute(1, 2, 0) - expected) * torch.tensor(STD) * 255
    assert levels.abs().max() < 1.01
    assert (levels.abs() < 0.01).float().mean() > 0.99


@given(counts=st.lists(st.integers(1, 5), max_size=5), start=st.integers(0, 1000))
@settings(max_examples=4, deadline=None)
def test_a_cut_changes_nothing(weights, whole, counts, start):
    assert np.array_equal(cut(make(weights), FRAMES, counts, start), whole)


def test_memory_is_bounded(weights):
    tracker = load_tracker("mask_sam2", weights, CANVAS, "float32")
    tracker.start([BOX])
    sizes = []
    for frame in scene(40, 48, 64):
        tracker.step(frame)
        sizes.append(held(tracker._session))
    assert sizes[5] < sizes[10] < sizes[14] < sizes[15]  # the frame with the prompt and 15 more
    assert set(sizes[15:]) == {sizes[15]}
    assert len(tracker._session.frames_tracked_per_obj[0]) == 15


def test_without_forgetting_memory_grows(weights, monkeypatch):
    monkeypatch.setattr(Sam2Tracker, "_forget", lambda self: None)
    tracker = load_tracker("mask_sam2", weights, CANVAS, "float32")
    tracker.start([BOX])
    sizes = []
    for frame in scene(20, 48, 64):
        tracker.step(frame)
        sizes.append(held(tracker._session))
    assert sizes == sorted(set(sizes))


def test_forgetting_more_changes_masks(weights):
    """What stays is needed. Frame 0 stays for good, so a frame is missed first by the one `reach` + 1 behind frame 1."""
    reach, frames, logits = 14, scene(20, SAM2_SIZE, SAM2_SIZE), []
    for number in (15, reach):
        tracker = load_tracker("mask_sam2", weights, CANVAS, "float32")
        assert tracker._reach == 15
        tracker._reach = number
        tracker.start([BOX])
        seen = []
        decoder = tracker._model.mask_decoder
        hook = decoder.register_forward_hook(lambda *call, seen=seen: seen.append(call[-1][0].clone()))
        for frame in frames:
            tracker.step(frame)
        hook.remove()
        logits.append(seen)
    same = [torch.equal(a, b) for a, b in zip(*logits, strict=True)]
    assert all(same[: reach + 2])
    assert not any(same[reach + 2 :])


def test_starting_again_forgets(weights):
    tracker = load_tracker("mask_sam2", weights, CANVAS, "float32")
    runs = []
    for _ in range(2):
        tracker.start([BOX])
        runs.append([tracker.step(frame) for frame in FRAMES])
    assert np.array_equal(*runs)


def test_several_objects_are_one_mask(weights):
    tracker = load_tracker("mask_sam2", weights, CANVAS, "float32")
    alone = []
    for prompts in ([BOX], [(0.75, 0.25)], [BOX, (0.75, 0.25)]):
        tracker.start(prompts)
        alone.append(tracker.step(FRAMES[0]))
    assert np.array_equal(alone[0] | alone[1], alone[2])
    assert not np.array_equal(alone[0], alone[2])


def test_a_pause_keeps_the_memory(weights):
    annotator, other = make(weights), make(weights)
    annotator(FRAMES[:4], 0)
    other(FRAMES[:4], 0)
    annotator.pause()
    assert np.array_equal(annotator(FRAMES[4:], 50), other(FRAMES[4:], 4))


def test_bfloat16(weights):
    full, half = (make(weights, box=BOX, dtype=dtype)(FRAMES, 0) for dtype in ("float32", "bfloat16"))
    assert (full == half).mean() > 0.8


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"weights": "x"},
            "controls.annotators.mask_sam2: give point, box or mask, one of the three, not none of them",
        ),
        (
            {"point": (0.5, 0.5), "box": BOX},
            "controls.annotators.mask_sam2: give point, box or mask, one of the three, not point and box",
        ),
        ({"point": (0.5, 1.5)}, "controls.annotators.mask_sam2.point.1: must be less than or equal to 1, not 1.5"),
        ({"point": (0.5,)}, "controls.annotators.mask_sam2.point.1: is missing"),
    ],
)
def test_settings(options, text):
    with pytest.raises(SettingsError) as caught:
        make_annotator("mask_sam2", options, CANVAS)
    assert str(caught.value) == text


def test_a_mask_of_another_size(weights, tmp_path):
    save_mask(tmp_path / "mask.png", 64, 48)
    with pytest.raises(InputError) as caught:
        make(weights, mask=tmp_path / "mask.png")
    path = str(tmp_path / "mask.png")
    assert str(caught.value) == f"annotator 'mask_sam2': mask {path!r} is 64x48 (height x width), the video 48x64"


def test_a_dark_mask(weights, tmp_path):
    Image.new("L", (64, 48), 127).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="is dark all over, expected light where the object is"):
        make(weights, mask=tmp_path / "mask.png")


def test_no_mask_file(weights, tmp_path):
    with pytest.raises(InputError, match="annotator 'mask_sam2': mask: no file '.*mask.png'"):
        make(weights, mask=tmp_path / "mask.png")


def test_weights_that_are_not_there():
    with pytest.raises(CheckpointError, match="annotator 'mask_sam2': weights 'facebook/sam2.1-hiera-tiny' is neither"):
        make_annotator("mask_sam2", {"box": BOX}, CANVAS)


def test_weights_of_another_model(tmp_path):
    folder = save_depth_anything(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        make(str(folder))
    assert str(caught.value) == (
        f"annotator 'mask_sam2': {folder} holds a model of type 'depth_anything', expected 'sam2_video'"
    )


@pytest.mark.parametrize("content", [None, "{", "{}", '{"image_mean": 1, "image_std": 2}'])
def test_no_image_processor(tmp_path, content):
    folder = save_sam2(tmp_path)
    (folder / "preprocessor_config.json").unlink()
    if content:
        (folder / "preprocessor_config.json").write_text(content)
    with pytest.raises(CheckpointError) as caught:
        make(str(folder))
    assert str(caught.value).startswith(f"annotator 'mask_sam2': {folder} holds no image processor: ")
    assert "\n" not in str(caught.value)
