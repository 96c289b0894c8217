"""The tracking annotator on a scene whose object's place is known, and on the bundled clip."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vace_adapt.annotators import mask_track
from vace_adapt.annotators.find import load_annotator, make_annotator
from vace_adapt.contract import Canvas
from vace_adapt.embedded.world.render import render
from vace_adapt.embedded.world.scene import draw_scene
from vace_adapt.errors import InputError, SettingsError
from vace_adapt.video.read import probe, read_frames

SIZES = [(48, 64), (72, 128), (120, 200)]
TRACKERS = ["csrt", "kcf"]


def scene(height, width, count=12, step=2):
    """A checked block that moves to the right by `step` and down by 1 pixel; its [left, top, right, bottom] by frame."""
    generator = np.random.default_rng(0)
    side, start = height // 3, (height // 4, width // 6)
    ground = cv2.GaussianBlur(generator.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 3)
    block = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    block = cv2.resize(block, (side, side), interpolation=cv2.INTER_NEAREST)
    frames, places = np.stack([ground] * count), []
    for i, frame in enumerate(frames):
        top, left = start[0] + i, start[1] + step * i
        seen = frame[top : top + side, left : left + side]
        seen[:] = block[: seen.shape[0], : seen.shape[1]]
        places.append((left, top, left + side, top + side))
    return frames, places


def started(frames, place, **options):
    height, width = frames.shape[1:3]
    box = [place[0] / width, place[1] / height, place[2] / width, place[3] / height]
    return make_annotator("mask_track", {"box": box, **options}, Canvas(height, width))


def rectangle(shape, left, top, right, bottom):
    mask = np.zeros(shape, np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def overlap(mask, other):
    """Intersection over union."""
    return np.count_nonzero((mask > 0) & (other > 0)) / np.count_nonzero((mask > 0) | (other > 0))


def test_what_it_is():
    info = load_annotator("mask_track")
    assert (info.makes, info.reads, info.weights, info.extra) == ("mask", "frames", None, None)
    assert info.state


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tracker", TRACKERS)
def test_the_object_is_followed(tracker, size):
    frames, places = scene(*size)
    before = frames.copy()
    masks = started(frames, places[0], tracker=tracker)(frames, 0)
    assert masks.shape == frames.shape[:3]
    assert masks.dtype == np.uint8
    assert np.array_equal(masks[0], rectangle(size, *places[0]))
    assert min(overlap(mask, rectangle(size, *place)) for mask, place in zip(masks, places, strict=True)) > 0.6
    assert overlap(masks[-1], masks[0]) < 0.4
    assert np.array_equal(frames, before)


def test_kcf_knows_the_object_from_the_first_frame(monkeypatch):
    """It moves by a quarter of itself at once; OpenCV's KCF alone would take the second frame for the first."""
    frames, places = scene(72, 128, count=3, step=6)
    good = started(frames, places[0], tracker="kcf")(frames, 0)
    assert overlap(good[-1], rectangle((72, 128), *places[-1])) > 0.9

    def careless(tracker, frame, place):
        made = cv2.TrackerKCF.create()
        made.init(frame, (place[0], place[1], place[2] - place[0], place[3] - place[1]))
        return made

    monkeypatch.setattr(mask_track, "_started", careless)
    late = started(frames, places[0], tracker="kcf")(frames, 0)
    assert overlap(late[-1], rectangle((72, 128), *places[-1])) < 0.7


@pytest.mark.parametrize("tracker", TRACKERS)
def test_the_bundled_clip(tracker):
    """A box around the ball comes with it; it leaves the frame after a while. The scene says where the ball is."""
    folder = Path(str(files("vace_adapt") / "embedded" / "clip"))
    clip = np.stack(list(read_frames(probe(folder / "video.mp4"), 64, 64)))[5:17]
    balls = render(draw_scene(62, 45)).masks[-1][5:17] > 0.5
    rows, columns = np.nonzero(balls[0])
    place = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    masks = started(clip, place, tracker=tracker)(clip, 5)
    for mask, ball in zip(masks, balls, strict=True):
        assert np.count_nonzero(ball & (mask > 0)) / np.count_nonzero(ball) > 0.95
        assert np.count_nonzero(mask) < 1.5 * np.count_nonzero(ball)


@pytest.mark.parametrize("tracker", TRACKERS)
@pytest.mark.parametrize("size", SIZES)
def test_the_same_masks_every_time(tracker, size):
    """Whatever OpenCV's random numbers and the number of its threads are."""
    frames, places = scene(*size, count=6)
    threads, outcomes = cv2.getNumThreads(), set()
    try:
        for seed in range(2):
            cv2.setRNGSeed(seed)
            cv2.setNumThreads(1 + seed)
            outcomes.add(started(frames, places[0], tracker=tracker)(frames, 0).tobytes())
    finally:
        cv2.setNumThreads(threads)
    assert len(outcomes) == 1


def test_mil_would_not_give_the_same_masks():
    """Why it is not offered."""
    frames, (place, *_) = scene(72, 128)
    outcomes = set()
    for _ in range(4):
        cv2.setRNGSeed(0)
        tracker = cv2.TrackerMIL.create()
        tracker.init(frames[0], (place[0], place[1], place[2] - place[0], place[3] - place[1]))
        outcomes.add(str([tracker.update(frame) for frame in frames[1:8]]))
    assert len(outcomes) > 1


@pytest.mark.parametrize("tracker", TRACKERS)
@settings(max_examples=5, deadline=None)
@given(cuts=st.lists(st.integers(1, 4), min_size=1, max_size=5), rest=st.booleans())
def test_cuts_and_pauses_change_nothing(tracker, cuts, rest):
    frames, places = scene(48, 64, count=8)
    whole = started(frames, places[0], tracker=tracker)(frames, 0)
    annotator, parts = started(frames, places[0], tracker=tracker), []
    ends = [end for end in np.cumsum(cuts).tolist() if end < len(frames)]
    for start, end in zip([0, *ends], [*ends, len(frames)], strict=True):
        parts.append(annotator(frames[start:end], start))
        if rest:
            annotator.pause()
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_streams_do_not_share_a_tracker(tracker):
    frames, places = scene(48, 64, count=8)
    alone = started(frames, places[0], tracker=tracker)(frames, 0)
    one, other = (started(frames, places[0], tracker=tracker) for _ in range(2))
    mixed = []
    for i in range(len(frames)):
        mixed.append(one(frames[i : i + 1], i))
        other(frames[::-1][i : i + 1], i)
    assert np.array_equal(np.concatenate(mixed), alone)


# --- a lost object ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tracker", TRACKERS)
def test_an_object_that_leaves_the_frame(tracker):
    frames, places = scene(48, 64, count=26, step=5)
    held = started(frames, places[0], tracker=tracker)(frames, 0)
    empty = started(frames, places[0], tracker=tracker, lost="empty")(frames, 0)
    found = empty.any(axis=(1, 2))
    assert found[:7].all()
    assert not found[-4:].any()
    assert np.array_equal(held[found], empty[found])
    last = None
    for mask, is_found in zip(held, found, strict=True):
        assert is_found or np.array_equal(mask, last)
        last = mask
    assert held.any(axis=(1, 2)).all()


class Scripted:
    """A tracker that answers as told."""

    def __init__(self, answers):
        self.answers = list(answers)

    def update(self, frame):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def scripted(monkeypatch, answers, **options):
    monkeypatch.setattr(mask_track, "_started", lambda *args: Scripted(answers))
    frames = np.zeros((1 + len(answers), 32, 48, 3), np.uint8)
    annotator = make_annotator("mask_track", {"box": [0.25, 0.25, 0.5, 0.5], **options}, Canvas(32, 48))
    return [np.argwhere(mask)[[0, -1]].tolist() if mask.any() else None for mask in annotator(frames, 0)]


def test_boxes_are_cut_at_the_edge(monkeypatch):
    answers = [(True, (-4, -3, 10, 10)), (True, (40, 30, 20, 20)), (True, (48, 0, 9, 9)), (True, (-9, 0, 9, 9))]
    made = scripted(monkeypatch, answers, lost="empty")
    assert made == [[[8, 12], [15, 23]], [[0, 0], [6, 5]], [[30, 40], [31, 47]], None, None]


@pytest.mark.parametrize("lost", ["hold", "empty"])
def test_what_is_found_again(monkeypatch, lost):
    answers = [(True, (1, 2, 3, 4)), (False, (0, 0, 0, 0)), (False, (5, 5, 5, 5)), (True, (7, 8, 1, 1))]
    gone = [[2, 1], [5, 3]] if lost == "hold" else None
    made = scripted(monkeypatch, answers, lost=lost)
    assert made == [[[8, 12], [15, 23]], [[2, 1], [5, 3]], gone, gone, [[8, 7], [8, 7]]]


def test_a_tracker_that_fails_is_not_asked_again(monkeypatch):
    made = scripted(monkeypatch, [(True, (1, 2, 3, 4)), cv2.error("collapsed"), (True, (7, 8, 1, 1))], lost="empty")
    assert made == [[[8, 12], [15, 23]], [[2, 1], [5, 3]], None, None]


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "controls.annotators.mask_track.box: is missing"),
        ({"box": [0, 0, 1]}, "controls.annotators.mask_track.box.3: is missing"),
        (
            {"box": [0, 0.5, 1, 0.5]},
            "controls.annotators.mask_track.box: must be [left, top, right, bottom] with left < right and top < bottom, not [0.0, 0.5, 1.0, 0.5]",
        ),
        (
            {"box": [0, 0, 1, 1], "tracker": "mil"},
            "controls.annotators.mask_track.tracker: must be 'csrt' or 'kcf', not 'mil'",
        ),
        (
            {"box": [0, 0, 1, 1], "lost": "stop"},
            "controls.annotators.mask_track.lost: must be 'hold' or 'empty', not 'stop'",
        ),
    ],
)
def test_mistakes_in_settings(options, text):
    with pytest.raises(SettingsError) as error:
        make_annotator("mask_track", options, Canvas(32, 48))
    assert str(error.value) == text


def test_a_box_too_small_to_follow():
    with pytest.raises(InputError) as error:
        make_annotator("mask_track", {"box": [0.5, 0.5, 0.56, 1]}, Canvas(32, 48))
    assert str(error.value) == (
        "box [0.5, 0.5, 0.56, 1.0] is 16x3 pixels (height x width) of a 32x48 frame: a tracker needs sides of at least 4"
    )


def test_a_box_too_thin_to_follow():
    annotator = make_annotator("mask_track", {"box": [0, 0.4, 1, 0.42]}, Canvas(240, 416))
    with pytest.raises(InputError) as error:
        annotator(np.random.default_rng(0).integers(0, 256, (1, 240, 416, 3), dtype=np.uint8), 0)
    assert str(error.value) == "tracker csrt cannot follow a box of 5x416 pixels (height x width): it is too thin"
