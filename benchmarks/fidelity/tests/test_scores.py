"""Every score is best for the truth, at chance for another clip, and falls with what it is to notice."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES

FRAMES = 13
BEST = {"IoU": 0.9, "correlation": 0.999, "dB": 70, "similarity": 0.7, "share": 0.7}


@pytest.fixture(scope="module")
def clips():
    """Clip and what is given, by case."""
    found = {}
    for name, case in CASES.items():
        clip = case.clip(0, FRAMES)
        found[name] = clip, case.give(clip)
    return found


def score(name, clips, change=lambda frames: frames):
    clip, given = clips[name]
    return CASES[name].score(change(clip.frames.copy()), clip, given)


def half_black(frames):
    frames[:, :32] = 0
    return frames


def noisy(frames):
    noise = np.random.default_rng(0).normal(0, 40, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def moved(frames):
    return np.roll(frames, 9, axis=2)


def other_colours(frames):
    return frames[..., [1, 2, 0]]


def backwards(frames):
    return frames[::-1]


def test_the_truth_is_best(clips):
    for name, case in CASES.items():
        assert score(name, clips) > BEST[case.unit], name


@pytest.mark.parametrize("name", CASES)
def test_another_clip_is_worse(clips, name):
    others = [CASES[name].clip(number, FRAMES).frames for number in (1001, 1002, 1003)]
    scores = [score(name, clips, lambda _, other=other: other) for other in others]
    assert np.mean(scores) < 0.8 * score(name, clips)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("depth", moved),
        ("depth", half_black),
        ("pose", moved),
        ("layout", moved),
        ("scribble", moved),
        ("scribble", half_black),
        ("gray", half_black),
        ("gray", moved),
        ("flow", backwards),
        ("inpaint, kept", noisy),
        ("inpaint, made", other_colours),
        ("inpaint, made", lambda frames: frames * 0),
        ("first frame", noisy),
        ("last frame", moved),
        ("reference", other_colours),
        ("reference", lambda frames: frames * 0),
    ],
)
def test_what_a_score_notices(clips, name, change):
    assert score(name, clips, change) < 0.8 * score(name, clips)


def test_kept_pixels_alone_count_where_the_mask_keeps(clips):
    clip, given = clips["outpaint, kept"]
    made_anew = np.where(given.mask[..., None] > 0, 0, clip.frames).astype(np.uint8)
    assert score("outpaint, kept", clips, lambda _: made_anew) == score("outpaint, kept", clips)


def test_key_frames_alone_count(clips):
    def last_alone(frames):
        frames[:-1] = 0
        return frames

    assert score("last frame", clips, last_alone) == score("last frame", clips)
    assert score("first and last frame", clips, last_alone) < 0.8 * score("last frame", clips)
