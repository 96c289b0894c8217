"""Control pictures of clips: what the annotators make of the same frames, and what they would make of the truth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from embedded.world.staged import scene, thing

from vace_adapt.annotators.find import make_annotator
from vace_adapt.annotators.label_colours import label_colour
from vace_adapt.contract import Canvas
from vace_adapt.embedded.world import controls
from vace_adapt.embedded.world.controls import CONTROLS
from vace_adapt.embedded.world.render import boxes, render
from vace_adapt.embedded.world.scene import PUPPET, SIZE, draw_scene

CANVAS = Canvas(SIZE, SIZE)


@pytest.fixture(scope="module")
def clips():
    return [render(draw_scene(seed, 4)) for seed in range(5)]


@pytest.mark.parametrize("name", CONTROLS)
def test_one_picture_for_each_frame(name, clips):
    for clip in (*clips, render(draw_scene(9, 1))):
        pictures = CONTROLS[name](clip)
        assert (pictures.dtype, pictures.shape) == (np.uint8, clip.frames.shape)
    made = np.stack([CONTROLS[name](clip) for clip in clips])
    assert made.std() > 10
    assert (made[:, 1:] != made[:, :-1]).any(), "they move"


@pytest.mark.parametrize(
    ("name", "other"),
    [("canny", {"low": 30, "high": 60}), ("softedge", {"sigma": 2.5}), ("scribble", {"sigma": 0.8}), ("gray", {"order": "bgr"})],
)  # fmt: skip
def test_pictures_of_frames_are_the_annotators_own(name, other, clips):
    for clip in clips:
        assert np.array_equal(CONTROLS[name](clip), make_annotator(name, {}, CANVAS)(clip.frames, 0))
    assert not all(
        np.array_equal(CONTROLS[name](clip), make_annotator(name, other, CANVAS)(clip.frames, 0)) for clip in clips
    )


def test_depth_is_nearness(clips):
    for clip in clips:
        picture = CONTROLS["depth"](clip)
        assert (picture == picture[..., :1]).all()
        assert (abs(picture[..., 0] / 255 - clip.depth) <= 0.5 / 255 + 1e-6).all()


def test_flow_is_shown_as_the_annotator_shows_it(monkeypatch):
    """Motion to the right is red, none is white, and the longest of a picture is in full colour."""
    right = render(scene(thing("square", by=(1.5, 0))))

    def is_red():
        pictures, seen = CONTROLS["flow"](right)[1:], right.masks[0, 1:]
        assert (abs(pictures[seen > 0.99].astype(int) - (255, 0, 0)) <= 3).all()
        assert (pictures[seen < 0.01] == 255).all()

    is_red()
    drawn = controls.flow_to_colours
    monkeypatch.setattr(controls, "flow_to_colours", lambda flow, full: drawn(-flow, full))
    with pytest.raises(AssertionError):
        is_red()


def near_the_figure(clip):
    figure, lit = clip.masks[-1] > 0.5, CONTROLS["pose"](clip).max(axis=-1) > 60
    around = np.stack([cv2.dilate(one.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0 for one in figure])
    assert (lit & figure).sum() > 0.2 * figure.sum()
    assert (lit & ~around).sum() < 0.02 * lit.sum()


def test_skeletons_lie_on_the_puppets(monkeypatch):
    walking = render(scene(thing(PUPPET, at=(25, 35), by=(2, 0))))
    near_the_figure(walking)
    points = controls.keypoints
    monkeypatch.setattr(controls, "keypoints", lambda one, frames: points(one, frames)[..., [1, 0, 2]])
    with pytest.raises(AssertionError):
        near_the_figure(walking)


def test_nobody_is_black():
    assert not CONTROLS["pose"](render(draw_scene(0, 2, puppet=False))).any()


def test_two_puppets_are_drawn_together():
    first, second = (thing(PUPPET, at=(x, 32), radius=10.0, nearness=x / 64) for x in (16, 48))
    both = CONTROLS["pose"](render(scene(first, second))).astype(int)
    apart = [CONTROLS["pose"](render(scene(one))).astype(int) for one in (first, second)]
    assert np.array_equal(both, apart[0] + apart[1])


def test_layout_is_the_annotators_own():
    clip = render(scene(thing("ball", at=(20, 30), by=(1, 1)), thing("ring", at=(40, 20), by=(0, 2), nearness=0.8)))
    objects = [
        {
            "label": one.kind,
            "path": [{"frame": t, "box": (box / SIZE).tolist()} for t, box in enumerate(track)],
        }
        for one, track in zip(clip.scene.things, boxes(clip.masks), strict=True)
    ]  # fmt: skip
    expected = make_annotator("layout", {"objects": objects}, CANVAS)(clip.frames, 0)
    assert np.array_equal(CONTROLS["layout"](clip), expected)
    for entry in objects:
        entry["label"] = "other"
    assert not np.array_equal(
        CONTROLS["layout"](clip), make_annotator("layout", {"objects": objects}, CANVAS)(clip.frames, 0)
    )


def test_a_hidden_thing_has_no_box():
    hidden = thing("ball", radius=4.0, nearness=0.5)
    clip = render(scene(hidden, thing("square", radius=20.0, nearness=0.8)))
    assert not (CONTROLS["layout"](clip) == label_colour("ball")).all(axis=-1).any()
    assert (CONTROLS["layout"](clip) == label_colour("square")).all(axis=-1).any()
