from __future__ import annotations

import cv2
import numpy as np
import pytest
from annotators.tiny_models import cut, held, one_thread, save_grounding_dino, save_sam2, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForZeroShotObjectDetection,
    BertTokenizer,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
)

from vace_adapt.annotators import mask_grounding
from vace_adapt.annotators.find import make_annotator
from vace_adapt.annotators.grounding_boxes import distinct, grounding_text, load_detector
from vace_adapt.annotators.mask_grounding import FilledBoxes, GroundedMask, GroundingSettings
from vace_adapt.annotators.sam2_tracker import load_tracker
from vace_adapt.contract import Canvas
from vace_adapt.errors import CheckpointError, InputError, SettingsError

CANVAS = Canvas(64, 96)
FRAMES = scene(8, 64, 96)
LABEL = "controls.annotators.mask_grounding.label: must be one name without a full stop, not"
BOX, OTHER = (0.25, 0.25, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with one_thread():
        yield {
            "weights": str(save_grounding_dino(tmp_path_factory.mktemp("grounding_dino"))),
            "sam2_weights": str(save_sam2(tmp_path_factory.mktemp("sam2"))),
        }


def make(weights, canvas=CANVAS, **options):
    text = {} if "caption" in options else {"label": "red ball"}
    return make_annotator("mask_grounding", {**weights, **text, **options}, canvas)


def detections(weights, frame, text, threshold=0.25):
    """What transformers finds: boxes in pixels, float32 [N, 4], and scores, best first."""
    folder = weights["weights"]
    processor = GroundingDinoProcessor(
        GroundingDinoImageProcessorPil.from_pretrained(folder), BertTokenizer.from_pretrained(folder)
    )
    model = AutoModelForZeroShotObjectDetection.from_pretrained(folder)
    outputs = model(**processor(images=frame, text=text, return_tensors="pt"))
    found = processor.post_process_grounded_object_detection(
        outputs, threshold=threshold, target_sizes=[frame.shape[:2]]
    )[0]
    order = found["scores"].argsort(descending=True)
    return found["boxes"][order].numpy(), found["scores"][order].numpy()


def filled(boxes):
    mask = np.zeros(FRAMES.shape[1:3], np.uint8)
    for box in np.round(boxes).astype(int).clip(0):
        mask[box[1] : box[3], box[0] : box[2]] = 255
    return mask


def told(answers, segmenter=None, **options):
    """An annotator that finds what it is told, by frame, and the numbers of the frames it looked at."""
    looked = []

    def find(frame):
        looked.append(int(frame[0, 0, 0]))
        return answers.get(looked[-1], ([BOX], 0.9))

    settings = GroundingSettings(label="cat", segment="box", **options)
    return GroundedMask(find, segmenter or FilledBoxes(), settings), looked


def numbered(count, start=0):
    """Frames that say their number."""
    return np.broadcast_to(np.arange(start, start + count, dtype=np.uint8)[:, None, None, None], (count, 8, 8, 3))


def test_masks(weights):
    before = FRAMES.copy()
    masks = make(weights)(FRAMES, 0)
    assert masks.shape == FRAMES.shape[:3]
    assert masks.dtype == np.uint8
    assert set(np.unique(masks)) == {0, 255}
    assert (masks[0] != masks[1]).any()
    assert (before == FRAMES).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [({"label": "Red Ball"}, [["Red Ball"]]), ({"caption": "A cat on a mat"}, "a cat on a mat.")],
)
def test_the_box_is_that_of_transformers(weights, options, text):
    boxes, scores = detections(weights, FRAMES[0], text)
    assert scores[0] > scores[1]
    masks = make(weights, segment="box", **options)(FRAMES, 0)
    assert (masks == filled(boxes[:1])).all()
    assert 0 < masks.mean() < 255


def test_label_and_caption_differ(weights):
    masks = [make(weights, segment="box", **text)(FRAMES[:1], 0) for text in ({}, {"caption": "a cat on a mat"})]
    assert not np.array_equal(*masks)


def test_scores_and_boxes_are_those_of_transformers(weights):
    boxes, scores = load_detector("mask_grounding", weights["weights"], CANVAS, "red ball.", "float32")(FRAMES[0])
    expected_boxes, expected_scores = detections(weights, FRAMES[0], "red ball.", threshold=0.0)
    assert np.array_equal(scores, expected_scores)
    inside = (expected_boxes / np.float32([96, 64, 96, 64])).clip(0, 1)
    assert np.allclose(boxes, inside, atol=1e-6)
    assert (boxes != expected_boxes / np.float32([96, 64, 96, 64])).any()  # some reach beyond the frame


def test_all_boxes(weights, monkeypatch):
    monkeypatch.setattr(mask_grounding, "OVERLAP", 0.1)  # of the random boxes, few overlap by half
    boxes, scores = detections(weights, FRAMES[0], "red ball.", threshold=0.95)
    inside = boxes.clip(0, [96, 64, 96, 64])
    sizes = np.concatenate([inside[:, :2], inside[:, 2:] - inside[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(sizes.astype(float).tolist(), scores.tolist(), 0.0, 0.1)
    assert 1 < len(kept) < len(boxes)
    masks = make(weights, segment="box", threshold=0.95, all=True)(FRAMES, 0)
    assert (masks == filled(boxes[kept])).all()
    assert not (masks == filled(boxes[:1])).all()


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 4), max_size=8))
def test_distinct(corners):
    boxes = np.float32([[min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1] for a, b, c, d in corners]).reshape(-1, 4)
    pixels = np.zeros((len(boxes), 22, 22), bool)
    for mask, (left, top, right, bottom) in zip(pixels, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = True
    expected = []
    for i in range(len(boxes)):
        if all((pixels[i] & pixels[j]).sum() <= 0.5 * (pixels[i] | pixels[j]).sum() for j in expected):
            expected.append(i)
    assert np.array_equal(distinct(boxes, 0.5), boxes[expected])


@pytest.mark.parametrize("every", [0, 3])
def test_sam2_follows_the_box(weights, every):
    detect = load_detector("mask_grounding", weights["weights"], CANVAS, "red ball.", "float32")
    tracker = load_tracker("mask_grounding", weights["sam2_weights"], CANVAS, "float32")
    expected = []
    for number, frame in enumerate(FRAMES):
        if number == 0 or (every and number % every == 0):
            tracker.start([tuple(detect(frame)[0][0].tolist())])
        expected.append(tracker.step(frame))
    masks = make(weights, every=every)(FRAMES, 0)
    assert np.array_equal(masks == 255, expected)


def test_sam2_follows_all_boxes(weights):
    one, several = (make(weights, all=which, threshold=0.95)(FRAMES[:3], 0) for which in (False, True))
    assert (several >= one)[0].all()
    assert (several > one)[0].any()


@given(counts=st.lists(st.integers(1, 4), max_size=5), start=st.integers(0, 5))
@settings(max_examples=3, deadline=None)
def test_a_cut_changes_nothing(weights, counts, start):
    options = {"every": 3, "segment": "sam2"}
    whole = make(weights, **options)(FRAMES, start)
    assert np.array_equal(cut(make(weights, **options), FRAMES, counts, start), whole)


@given(counts=st.lists(st.integers(1, 6), max_size=8))
def test_looking_again_counts_frames_of_the_stream(counts):
    answers = {number: ([OTHER], 0.5) for number in (10, 20)}
    annotator, looked = told(answers, every=5)
    masks = cut(annotator, numbered(20, start=7), counts, start=7)
    assert looked == [7, 10, 15, 20, 25]
    here, there = (np.zeros((8, 8), np.uint8) for _ in range(2))
    here[2:4, 2:4], there[0:4, 4:8] = 255, 255
    assert [(mask == there).all() for mask in masks] == [
        number in (*range(10, 15), *range(20, 25)) for number in range(7, 27)
    ]
    assert all((mask == here).all() or (mask == there).all() for mask in masks)


def test_what_is_lost_goes_on():
    annotator, looked = told({5: ([], 0.1)}, every=5)
    masks = annotator(numbered(10), 0)
    assert looked == [0, 5]
    assert (masks == masks[0]).all()


def test_only_behind_a_pause_it_looks_again():
    annotator, looked = told({4: ([OTHER], 0.5)})
    before = annotator(numbered(4), 0)
    annotator.pause()
    behind = annotator(numbered(4, start=4), 4)
    assert looked == [0, 4]
    assert (before == before[0]).all()
    assert (behind == behind[0]).all()
    assert (before[0] != behind[0]).any()


def test_not_found():
    annotator, looked = told({3: ([], 0.123)})
    with pytest.raises(InputError) as caught:
        annotator(numbered(2, start=3), 3)
    assert str(caught.value) == (
        "annotator 'mask_grounding': 'cat' is not in frame 3: the best score is 0.12, threshold is 0.25"
    )
    annotator(numbered(2, start=5), 5)
    assert looked == [3, 5]


def test_not_found_by_the_model(weights):
    best = detections(weights, FRAMES[0], "red ball.")[1][0]
    annotator = make(weights, segment="box", threshold=float(best))
    with pytest.raises(
        InputError, match=f"'red ball' is not in frame 0: the best score is {best:.2f}, threshold is {best}"
    ):
        annotator(FRAMES, 0)
    make(weights, segment="box", threshold=float(best) - 1e-4)(FRAMES, 0)


def test_filled_boxes():
    segmenter = FilledBoxes()
    segmenter.start([(0.1, 0.2, 0.5, 1.0), (0.5, 0.0, 0.6, 0.1)])
    mask = segmenter.step(np.zeros((10, 20, 3), np.uint8))
    expected = np.zeros((10, 20), bool)
    expected[2:10, 2:10] = expected[0:1, 10:12] = True
    assert np.array_equal(mask, expected)


def test_memory_is_bounded(weights):
    annotator = make(weights, every=18)
    sizes = []
    for number, frame in enumerate(scene(40, 64, 96)):
        annotator(frame[None], number)
        sizes.append(held(annotator._segmenter._session))
    assert max(sizes) == sizes[17] == sizes[35]
    assert sizes[18] == sizes[0] < sizes[17]


def test_bfloat16(weights):
    full, half = (make(weights, dtype=dtype)(FRAMES[:3], 0) for dtype in ("float32", "bfloat16"))
    assert (full == half).mean() > 0.7


def test_text():
    texts = [grounding_text(text) for text in ("Red Ball", " a cat. a mat. ")]
    assert texts == ["red ball.", "a cat. a mat."]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "controls.annotators.mask_grounding: give label or caption, not none of them"),
        ({"label": "a", "caption": "b"}, "controls.annotators.mask_grounding: give label or caption, not both"),
        ({"label": "cat. dog"}, f"{LABEL} 'cat. dog'; caption takes sentences"),
        ({"label": " "}, f"{LABEL} ' '; caption takes sentences"),
        ({"caption": " . "}, "controls.annotators.mask_grounding.caption: must say something, not ' . '"),
        (
            {"label": "a", "every": -1},
            "controls.annotators.mask_grounding.every: must be greater than or equal to 0, not -1",
        ),
        (
            {"label": "a", "segment": "hull"},
            "controls.annotators.mask_grounding.segment: must be 'sam2' or 'box', not 'hull'",
        ),
    ],
)
def test_settings(options, text):
    with pytest.raises(SettingsError) as caught:
        make_annotator("mask_grounding", options, CANVAS)
    assert str(caught.value) == text


def test_a_text_that_is_too_long(weights):
    with pytest.raises(InputError) as caught:
        make(weights, segment="box", caption="cat " * 300)
    assert str(caught.value) == "annotator 'mask_grounding': the text has 303 tokens, the model takes 256"


def test_weights_that_are_not_there(weights):
    with pytest.raises(
        CheckpointError, match="'mask_grounding': weights 'IDEA-Research/grounding-dino-tiny' is neither"
    ):
        make_annotator("mask_grounding", {"label": "cat"}, CANVAS)
    only = {"weights": weights["weights"]}
    with pytest.raises(CheckpointError, match="'mask_grounding': sam2_weights 'facebook/sam2.1-hiera-tiny' is neither"):
        make(only)
    make(only, segment="box")


def test_weights_of_another_model(weights):
    with pytest.raises(CheckpointError, match="a model of type 'sam2_video', expected 'grounding-dino'"):
        make({**weights, "weights": weights["sam2_weights"]})
    with pytest.raises(CheckpointError, match="a model of type 'grounding-dino', expected 'sam2_video'"):
        make({**weights, "sam2_weights": weights["weights"]})


def test_a_tokenizer_that_is_not_there(tmp_path):
    folder = save_grounding_dino(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        make({"weights": str(folder)}, segment="box")
    assert str(caught.value) == (f"annotator 'mask_grounding': the tokenizer in {folder} has 5 words, its model 13")
