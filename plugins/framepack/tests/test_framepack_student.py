"""The trained student that ships with the plugin, and when random weights take its place."""

from __future__ import annotations

import numpy as np
import pytest

from vace_adapt import load_pipeline
from vace_adapt.embedded.family import FAMILY, FAMILY_CONTROL_LAYERS
from vace_adapt.embedded.world.captions import caption
from vace_adapt.embedded.world.controls import CONTROLS
from vace_adapt.embedded.world.render import render
from vace_adapt.embedded.world.scene import draw_scene
from vace_adapt_framepack.settings import STUDENT_GUIDANCE, STUDENT_STEPS

CPU = {"device": "cpu", "dtype": "float32"}


@pytest.fixture(scope="module")
def student():
    return load_pipeline("framepack", **CPU)


def test_nothing_named_is_the_student(student):
    assert student.parts.trained
    assert student.parts.backbone == FAMILY
    assert student.context.layers == FAMILY_CONTROL_LAYERS
    assert (student.parts.steps, student.parts.settings.guidance_scale) == (STUDENT_STEPS, STUDENT_GUIDANCE)


def test_its_own_numbers_give_way_to_asked_ones():
    asked = load_pipeline("framepack", settings={"steps": 3, "guidance": 1.0, "solver": "euler"}, **CPU)
    assert asked.parts.trained
    assert (asked.parts.steps, asked.parts.settings.guidance_scale, asked.parts.settings.solver) == (3, 1.0, "euler")


@pytest.mark.parametrize("settings", [{"backend": "hunyuan"}, {"packing": "pooled"}])
def test_what_no_student_was_trained_for_is_random(settings):
    assert not load_pipeline("framepack", settings=settings, **CPU).parts.trained


def test_a_seed_asks_for_random_weights():
    assert not load_pipeline("framepack", seed=0, **CPU).parts.trained


def overlap(frames, masks):
    """Intersection over union of what is bright, as only things are, with the true things."""
    made, true = frames.max(axis=-1) > 170, masks.max(axis=0) > 0.5
    return (made & true).sum() / (made | true).sum()


def followed(pipeline, clip, scale):
    """The overlap in each of two sections."""
    options = {"height": 64, "width": 64, "seed": 0, "num_frames": 66, "scale": scale}
    with pipeline.stream(caption(clip.scene), **options) as stream:
        stream.feed(CONTROLS["depth"](clip), last=True)
        frames = np.concatenate([chunk.frames[0].numpy() for chunk in stream])
    assert frames.shape == (66, 64, 64, 3)
    masks = np.split(clip.masks, 2, axis=1)
    return [overlap(*section) for section in zip(np.split(frames, 2), masks, strict=True)]


@pytest.mark.parametrize("seed", [20, 21])
def test_its_sections_follow_a_depth_control(student, seed):
    """A clip that no model was trained on, the second section beside the first; without hints they are at chance."""
    clip = render(draw_scene(seed, 66))
    assert min(followed(student, clip, 1.0)) > 0.5
    assert max(followed(student, clip, 0.0)) < 0.4
