"""Everything follows from the seed, and the first frames do not depend on how many there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vace_adapt.embedded.world import scene as scenes
from vace_adapt.embedded.world.render import keypoints, reference, render
from vace_adapt.embedded.world.scene import COLOURS, GROUNDS, PATTERNS, PUPPET, SIZE, draw_scene
from vace_adapt.embedded.world.shapes import SHAPES, TEXTURES

SEEDS = range(60)


def shown(clip, frames):
    """All that a clip says of its first frames."""
    return [clip.frames[:frames], clip.depth[:frames], clip.flow[:frames], clip.masks[:, :frames]]


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_seed_is_a_clip():
    np.random.seed(1)
    first = render(draw_scene(7, 9))
    np.random.seed(2)
    again = render(draw_scene(7, 9))
    assert equal(shown(first, 9), shown(again, 9))
    assert not np.array_equal(first.frames, render(draw_scene(8, 9)).frames)
    for a, b in zip(first.scene.things, again.scene.things, strict=True):
        assert np.array_equal(reference(a), reference(b))


def begins_alike(seed):
    """A clip of 13 frames begins like one of 5."""
    short, long = render(draw_scene(seed, 5)), render(draw_scene(seed, 13))
    assert equal(shown(short, 5), shown(long, 5))
    for a, b in zip(short.scene.things, long.scene.things, strict=True):
        assert np.array_equal(keypoints(a, 5), keypoints(b, 13)[:5])
        assert np.array_equal(reference(a), reference(b))


@pytest.mark.parametrize("seed", range(6))
def test_a_longer_clip_begins_like_a_shorter_one(seed):
    begins_alike(seed)


def test_a_path_that_depends_on_the_length_is_noticed(monkeypatch):
    path = scenes._bouncing
    monkeypatch.setattr(scenes, "_bouncing", lambda *args: path(*args)[::-1])
    with pytest.raises(AssertionError):
        begins_alike(0)


def has_colours_of_its_own(scene):
    colours = [thing.colour for thing in scene.things]
    assert len(set(colours)) == len(colours)
    assert all(thing.second != thing.colour for thing in scene.things)


@pytest.mark.parametrize("seed", SEEDS)
def test_things_can_be_told_apart(seed):
    scene = draw_scene(seed, 2)
    has_colours_of_its_own(scene)
    kinds, nearness = [thing.kind for thing in scene.things], [thing.nearness for thing in scene.things]
    assert len(set(kinds)) == len(kinds)
    assert nearness == sorted(set(nearness)), "from back to front"
    assert 0.35 < nearness[0] <= nearness[-1] < 1


def test_a_shared_colour_is_noticed():
    scene = draw_scene(1, 2)
    twin = replace(scene.things[1], colour=scene.things[0].colour)
    with pytest.raises(AssertionError):
        has_colours_of_its_own(replace(scene, things=(scene.things[0], twin)))


def test_everything_is_drawn_sooner_or_later():
    drawn = [draw_scene(seed, 1) for seed in range(150)]
    things = [thing for scene in drawn for thing in scene.things]
    assert {len(scene.things) for scene in drawn} == {1, 2, 3}
    assert {thing.kind for thing in things} == {*SHAPES, PUPPET}
    assert {thing.texture for thing in things} == set(TEXTURES)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {scene.ground for scene in drawn} == set(GROUNDS)
    assert {scene.pattern for scene in drawn} == set(PATTERNS)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("puppet", [True, False])
def test_what_is_in_it_can_be_asked_for(count, puppet):
    for seed in range(10):
        scene = draw_scene(seed, 1, things=count, puppet=puppet)
        assert len(scene.things) == count
        assert [thing.kind for thing in scene.things].count(PUPPET) == puppet


def test_things_stay_in_sight_and_go_at_an_even_speed():
    for seed in SEEDS:
        for thing in draw_scene(seed, 81).things:
            assert thing.track.min() >= 0.7 * thing.radius - 1e-3
            assert thing.track.max() <= SIZE - 0.7 * thing.radius + 1e-3
            speed = abs(np.diff(thing.track, axis=0))
            usual = np.median(speed, axis=0)
            assert (speed <= usual + 1e-3).all(), "slower only where it turns back"
            assert (speed >= usual - 1e-3).mean() > 0.8
