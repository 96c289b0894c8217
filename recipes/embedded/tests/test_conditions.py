"""What VACE is given in training: what is to be generated is never shown, what is kept is shown as it is."""

from __future__ import annotations

from dataclasses import replace

import conditions
import numpy as np
import pytest
from conditions import EDITS, FAMILIES, draw_condition

from vace_adapt.embedded.world.controls import CONTROLS
from vace_adapt.embedded.world.render import render
from vace_adapt.embedded.world.scene import PUPPET, SIZE, draw_scene

FRAMES = 41
EXTENSIONS = ("first", "last", "both", "firstclip", "lastclip", "keyframes")


@pytest.fixture(scope="module")
def clips():
    """One thing, a puppet, and three things."""
    asked = ({"things": 1, "puppet": False}, {"things": 1, "puppet": True}, {"things": 3, "puppet": False})
    return [render(draw_scene(seed, FRAMES, **given)) for seed, given in enumerate(asked)]


def drawn(clips, count=8, family=None):
    """Conditions of every clip, of one family or of all, each with its clip."""
    random = np.random.default_rng(0)
    families = FAMILIES if family is None else {family: 1.0}
    return [(clip, draw_condition(clip, random, families)) for clip in clips for _ in range(count)]


def shows_nothing_of_what_is_to_be_generated(clip, condition):
    """There it is gray, or one of the clip's controls; everywhere else it is the clip."""
    assert condition.frames.shape == clip.frames.shape
    assert (condition.mask.dtype, condition.mask.shape) == (np.bool_, clip.frames.shape[:3])
    assert np.array_equal(condition.frames[~condition.mask], clip.frames[~condition.mask])
    generated = condition.frames[condition.mask]
    controls = [np.float32(127.5) * np.ones(clip.frames.shape, np.float32)]
    if any(name in condition.name for name in CONTROLS):
        controls = [CONTROLS[name](clip) for name in CONTROLS if name in condition.name]
    equal = [(generated == control[condition.mask]).all(axis=-1) for control in controls]
    assert np.any(equal, axis=0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_what_is_to_be_generated_is_shown(family, clips, monkeypatch):
    for clip, condition in drawn(clips, 3, family):
        shows_nothing_of_what_is_to_be_generated(clip, condition)
        if condition.mask.any():
            leaking = np.where(condition.mask[..., None], clip.frames, condition.frames)
            with pytest.raises(AssertionError):
                shows_nothing_of_what_is_to_be_generated(clip, replace(condition, frames=leaking))


def test_a_control_that_is_the_clip_itself_is_noticed(clips, monkeypatch):
    monkeypatch.setattr(conditions, "CONTROLS", dict.fromkeys(CONTROLS, lambda clip: clip.frames))
    for clip, condition in drawn(clips, 2, "control"):
        with pytest.raises(AssertionError):
            shows_nothing_of_what_is_to_be_generated(clip, condition)


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_are_float32(family, clips, monkeypatch):
    for _, condition in drawn(clips, 2, family):
        assert condition.frames.dtype == np.float32


# --- families -----------------------------------------------------------------------------------------------------


def parts(condition):
    return condition.name.split("+")


@pytest.fixture
def blank(monkeypatch):
    """Controls that take no time to draw."""
    monkeypatch.setattr(conditions, "CONTROLS", dict.fromkeys(CONTROLS, lambda clip: clip.frames // 2))


def test_every_family_is_drawn(blank):
    """With the shares as they are: every control and every area by itself, and every composition."""
    found = {condition.name for _, condition in drawn([render(draw_scene(1, 5, puppet=True))], 500)}
    assert set(CONTROLS) <= found
    assert {"inpaint", "outpaint", *EXTENSIONS} <= found
    joined = [name.split("+") for name in found if "+" in name]
    assert any(first == "inpaint" and second in CONTROLS for first, second in joined)
    assert any(first in EXTENSIONS and second in CONTROLS for first, second in joined)
    assert any(first in CONTROLS and second in CONTROLS for first, second in joined)
    assert any(
        "outpaint" in name and any(kind in name.replace("outpaint", "") for kind in EXTENSIONS) for name in found
    )


@pytest.mark.parametrize("families", [FAMILIES, EDITS])
def test_the_shares_add_up(families):
    assert sum(families.values()) == pytest.approx(1)


def test_edits_keep_something_above_all(blank):
    clip, random = render(draw_scene(1, 5)), np.random.default_rng(0)
    found = [draw_condition(clip, random, EDITS) for _ in range(300)]
    assert sum(not condition.mask.all() for condition in found) / len(found) == pytest.approx(0.88, abs=0.06)
    assert not any(set(condition.name.split("+")) >= {"outpaint", kind} for condition in found for kind in EXTENSIONS)


def test_poses_are_of_puppets_only(clips, blank, monkeypatch):
    for clip, condition in drawn(clips, 25, "control"):
        if condition.name == "pose":
            assert any(thing.kind == PUPPET for thing in clip.scene.things)
    names = [condition.name for clip, condition in drawn(clips[1:2], 60, "control")]
    assert 0.15 < names.count("pose") / len(names) < 0.6


def test_a_control_alone_generates_everything(clips, monkeypatch):
    for family in ("control", "control+control"):
        for clip, condition in drawn(clips, 6, family):
            assert condition.mask.all()
            assert all(part in CONTROLS for part in parts(condition))
            if family == "control":
                assert np.array_equal(condition.frames, CONTROLS[condition.name](clip))


def test_inpainting_keeps_the_rest(clips, monkeypatch):
    """The mask is a box that stands still, or hides all that is seen of a thing."""
    kinds = set()
    for clip, condition in drawn(clips, 20, "inpaint"):
        assert 0 < condition.mask.mean() < 0.7
        still = (condition.mask == condition.mask[0]).all()
        hides = [not (seen > 0.5)[~condition.mask].any() for seen in clip.masks]
        assert still or any(hides)
        kinds.add("still" if still else "moving")
    assert kinds == {"still", "moving"}


def test_an_objects_mask_is_of_that_object(clips):
    """Grown by a few pixels; of other things it covers what lies that close, no more."""
    whole = clips[2]
    for number in range(3):
        random = Scripted(kind="object", number=number, grow=2)
        _, mask = conditions._inpainting(whole, random)
        near = conditions._grown(whole.masks[number] > 0.3, 2)
        assert not (whole.masks[number] > 0.5)[~mask].any()
        assert not (mask & ~near).any()


class Scripted:
    """A generator whose first draws are given: which way to inpaint, which thing, how much wider."""

    def __init__(self, kind, number, grow):
        self.kind, self.numbers = kind, iter((number, grow))

    def choice(self, options):
        assert self.kind in options
        return self.kind

    def integers(self, *bounds):
        return next(self.numbers)


def test_outpainting_keeps_a_rectangle(clips, monkeypatch):
    borders = set()
    for _, condition in drawn(clips, 12, "outpaint"):
        kept = ~condition.mask
        assert (kept == kept[0]).all()
        rows, columns = kept[0].any(axis=1).nonzero()[0], kept[0].any(axis=0).nonzero()[0]
        assert kept[0].sum() == len(rows) * len(columns) > 0
        assert len(rows) == rows[-1] - rows[0] + 1
        assert len(columns) == columns[-1] - columns[0] + 1
        edges = {
            "top": rows[0] > 0,
            "bottom": rows[-1] < SIZE - 1,
            "left": columns[0] > 0,
            "right": columns[-1] < SIZE - 1,
        }
        assert any(edges.values())
        borders |= {edge for edge, free in edges.items() if free}
    assert borders == {"top", "bottom", "left", "right"}


def test_extensions_keep_whole_frames(clips, monkeypatch):
    seen = set()
    for _, condition in drawn(clips, 20, "extension"):
        kept = ~condition.mask.any(axis=(1, 2))
        assert np.array_equal(~kept, condition.mask.all(axis=(1, 2)))
        assert 0 < kept.sum() < FRAMES
        numbers = kept.nonzero()[0].tolist()
        expected = {"first": [0], "last": [FRAMES - 1], "both": [0, FRAMES - 1]}
        if condition.name in expected:
            assert numbers == expected[condition.name]
        if condition.name == "firstclip":
            assert numbers == list(range(len(numbers)))
        if condition.name == "lastclip":
            assert numbers == list(range(FRAMES - len(numbers), FRAMES))
        seen.add(condition.name)
    assert seen == set(EXTENSIONS)


def test_outpainting_with_an_extension_keeps_a_part_of_some_frames(clips, monkeypatch):
    for _, condition in drawn(clips, 6, "outpaint+extension"):
        whole = condition.mask.all(axis=(1, 2))
        kept = ~condition.mask[~whole]
        assert 0 < len(kept) < FRAMES
        assert (kept == kept[0]).all()
        assert 0 < kept[0].mean() < 1


def test_growing():
    mask = np.zeros((1, 16, 16), bool)
    mask[0, 8, 8] = True
    grown = conditions._grown(mask, 3)
    assert grown.sum() == 49
    assert grown[0, 5:12, 5:12].all()
    assert mask.sum() == 1
