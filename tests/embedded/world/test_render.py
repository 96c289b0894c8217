"""Pictures, masks, depth, boxes, joints and references of a clip against what they are made of, thing by thing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from embedded.world.staged import scene, thing

from vace_adapt.embedded.world import render as rendering
from vace_adapt.embedded.world.render import boxes, keypoints, reference, render
from vace_adapt.embedded.world.scene import COLOURS, GROUNDS, PATTERNS, PUPPET, SIZE, draw_scene
from vace_adapt.embedded.world.shapes import SHAPES, TEXTURES

CROSSING = scene(
    thing("ball", by=(1, 0), nearness=0.5),
    thing("square", by=(-1, 0), nearness=0.7, colour="green"),
    thing("ring", by=(0, 1), nearness=0.9, colour="blue"),
)
"""Three things over one another."""


def levels(colour):
    return np.rint(255 * np.array(COLOURS[colour]))


def alone(whole, number):
    """How much of each pixel a thing covers that nothing hides: [T, 64, 64]."""
    return render(replace(whole, things=(whole.things[number],))).masks[0]


@pytest.mark.parametrize(("frames", "things"), [(1, 1), (2, 3), (5, 2)])
def test_shapes_and_ranges(frames, things):
    clip = render(draw_scene(3, frames, things=things))
    assert (clip.frames.dtype, clip.frames.shape) == (np.uint8, (frames, SIZE, SIZE, 3))
    assert (clip.depth.dtype, clip.depth.shape) == (np.float32, (frames, SIZE, SIZE))
    assert (clip.flow.dtype, clip.flow.shape) == (np.float32, (frames, SIZE, SIZE, 2))
    assert (clip.masks.dtype, clip.masks.shape) == (np.float32, (things, frames, SIZE, SIZE))
    for truth in (clip.depth, clip.masks):
        assert truth.min() >= 0
        assert truth.max() <= 1
    assert np.isfinite(clip.flow).all()
    assert clip.frames.std() > 10


# --- masks --------------------------------------------------------------------------------------------------------


def nearer_things_hide(clip):
    """A thing is seen where none of the nearer ones is."""
    things = clip.scene.things
    for number, seen in enumerate(clip.masks):
        expected = alone(clip.scene, number)
        for other, hiding in enumerate(things):
            if hiding.nearness > things[number].nearness:
                expected = expected * (1 - alone(clip.scene, other))
        assert np.allclose(seen, expected, rtol=0, atol=1e-6)
    assert clip.masks.sum(axis=0).max() <= 1 + 1e-6


@pytest.mark.parametrize("whole", [CROSSING, *(draw_scene(seed, 3, things=3) for seed in range(5))])
def test_nearer_things_hide(whole):
    nearer_things_hide(render(whole))


def test_the_wrong_order_is_noticed():
    with pytest.raises(AssertionError):
        nearer_things_hide(render(replace(CROSSING, things=CROSSING.things[::-1])))


AREAS = {
    "ball": np.pi,
    "square": 1.72**2,
    "triangle": 3 * 3**0.5 * 0.55**2,
    "diamond": 2 * (0.76 * 2**0.5) ** 2,
    "ring": np.pi * (1 - 0.44**2),
    "cross": 2 * 2 * 0.72 - 0.72**2,
}
"""Of shapes of radius 1, by Euclid."""


@pytest.mark.parametrize("kind", SHAPES)
def test_a_mask_has_the_area_and_the_place_of_its_shape(kind):
    one = thing(kind, at=(30.3, 33.8), spin=0.4)
    for mask in render(scene(one)).masks[0]:
        assert abs(mask.sum() / (AREAS[kind] * one.radius**2) - 1) < 0.02
        weights = mask / mask.sum()
        centre = [
            (weights.sum(axis=0) * (np.arange(SIZE) + 0.5)).sum(),
            (weights.sum(axis=1) * (np.arange(SIZE) + 0.5)).sum(),
        ]
        assert np.allclose(centre, one.track[0], atol=0.1)


@pytest.mark.parametrize("kind", [*SHAPES, PUPPET])
def test_pixels_inside_have_the_colour(kind):
    clip = render(scene(thing(kind, at=(30.3, 33.8), spin=0.2)))
    inside = clip.masks[0] > 0.9999
    assert inside.mean() > 0.02
    assert (clip.frames[inside] == levels("red")).all()
    mixed = (clip.masks[0] > 0.2) & (clip.masks[0] < 0.8)
    assert (clip.frames[mixed][:, 0] < 255).all(), "a border has something of what lies behind"


def test_textures_show_both_colours():
    for texture in TEXTURES:
        clip = render(scene(thing("ball", texture=texture)))
        found = clip.frames[clip.masks[0] > 0.9999]
        near = [(abs(found - levels(colour)).max(axis=-1) < 20).mean() for colour in ("red", "cyan")]
        assert near[0] > 0.2, texture
        assert (near[1] > 0.1) == (texture != "solid"), texture


# --- depth --------------------------------------------------------------------------------------------------------


def is_composed_of_the_things(clip):
    """Depth is each thing's nearness where it is seen, and a floor that comes nearer towards the bottom."""
    floor = 0.05 + 0.3 * (np.arange(SIZE)[:, None] + 0.5) / SIZE
    expected = (1 - clip.masks.sum(axis=0)) * floor
    for one, seen in zip(clip.scene.things, clip.masks, strict=True):
        expected = expected + one.nearness * seen
    assert np.allclose(clip.depth, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("whole", [CROSSING, *(draw_scene(seed, 3) for seed in range(5))])
def test_depth(whole):
    clip = render(whole)
    is_composed_of_the_things(clip)
    for change in (1 - clip.depth, clip.depth[:, ::-1]):
        with pytest.raises(AssertionError):
            is_composed_of_the_things(replace(clip, depth=change))


# --- backgrounds --------------------------------------------------------------------------------------------------


def stands_out(clip):
    """Every pixel of a thing has a brighter channel than the whole background."""
    strongest = clip.frames.max(axis=-1)
    covered = clip.masks.sum(axis=0)
    assert strongest[covered < 1e-6].max() < strongest[clip.masks.max(axis=0) > 0.9999].min()


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_things_stand_out(ground, pattern):
    for light in range(4):
        one = thing("square", texture="striped", second="green", frames=2)
        stands_out(render(scene(one, ground=ground, pattern=pattern, light=light, drift=(3, 5))))


def test_a_bright_background_is_noticed(monkeypatch):
    monkeypatch.setitem(GROUNDS, "navy", (0.3, 0.4, 0.9))
    with pytest.raises(AssertionError):
        stands_out(render(scene(thing("square"))))


# --- boxes --------------------------------------------------------------------------------------------------------


def are_tight(masks, found):
    for mask, (left, top, right, bottom) in zip(masks, found.astype(int), strict=True):
        seen = {(x, y) for y in range(SIZE) for x in range(SIZE) if mask[y, x] > 0.5}
        if not seen:
            assert (left, top, right, bottom) == (0, 0, 0, 0)
            continue
        columns, rows = zip(*seen, strict=True)
        assert (left, top, right, bottom) == (min(columns), min(rows), max(columns) + 1, max(rows) + 1)


def test_boxes_contain_exactly_what_is_seen():
    random = np.random.default_rng(0)
    scattered = np.where(random.random((4, SIZE, SIZE)) < 0.001, 0.51, 0.5).astype(np.float32)
    masks = np.concatenate([scattered, np.zeros((1, SIZE, SIZE), np.float32), render(CROSSING).masks[:, 2]])
    found = boxes(masks)
    assert found.dtype == np.float32
    are_tight(masks, found)
    assert np.array_equal(boxes(masks.reshape(2, 4, SIZE, SIZE)), found.reshape(2, 4, 4))
    for edge in range(4):
        wrong = found.copy()
        wrong[-1, edge] += 1
        with pytest.raises(AssertionError):
            are_tight(masks, wrong)


# --- puppets ------------------------------------------------------------------------------------------------------


def lie_inside(points, mask):
    """Share of the joints inside the picture that lie on the figure."""
    places = np.floor(points[..., :2] * SIZE).astype(int)
    found = [
        mask[t, y, x] > 0.5
        for t, frame in enumerate(places)
        for x, y in frame
        if 0 <= x < SIZE and 0 <= y < SIZE
    ]  # fmt: skip
    assert len(found) > 0.5 * points[..., 0].size
    return np.mean(found)


@pytest.mark.parametrize("seed", range(8))
def test_joints_lie_on_the_figure(seed):
    whole = draw_scene(seed, 9, things=1, puppet=True)
    points = keypoints(whole.things[0], 9)
    assert (points.dtype, points.shape) == (np.float64, (9, 18, 3))
    assert (points[..., 2] == 1).all()
    assert (points[:, 2, 0] < points[:, 5, 0]).all(), "it faces the viewer"
    mask = render(whole).masks[0]
    assert lie_inside(points, mask) > 0.98
    assert lie_inside(points + np.array((0, 0.2, 0)), mask) < 0.9


# --- references ---------------------------------------------------------------------------------------------------


def shows(picture, one):
    """A thing in its colours, whole, on white."""
    size = len(picture)
    assert (picture.dtype, picture.shape) == (np.uint8, (size, size, 3))
    for border in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (border == 255).all()
    wanted = (one.colour,) if one.texture == "solid" else (one.colour, one.second)
    thing_pixels = picture[(picture != 255).any(axis=-1)]
    assert 0.15 < len(thing_pixels) / size**2 < 0.7
    for colour in wanted:
        assert (abs(thing_pixels - levels(colour)).max(axis=-1) < 20).mean() > 0.06, colour
    close = np.min([abs(thing_pixels - levels(colour)).max(axis=-1) for colour in wanted], axis=0)
    assert (close < 60).mean() > 0.5, "little else"


LOOKS = [
    (kind, texture) for kind in (*SHAPES, PUPPET) for texture in TEXTURES if (kind, texture) != ("ring", "spotted")
]  # fmt: skip
"""A ring has no middle for a spot."""


@pytest.mark.parametrize(("kind", "texture"), LOOKS)
def test_references_show_the_thing_on_white(kind, texture):
    one = thing(kind, texture=texture, colour="blue", second="yellow", at=(3, 4), spin=0.5, nearness=0.9)
    shows(reference(one), one)
    shows(reference(one, 96), one)
    moved = replace(one, track=one.track + 20, turn=one.turn + 1, radius=5.0)
    assert np.array_equal(reference(one), reference(moved)), "where it is in the clip does not matter"
    with pytest.raises(AssertionError):
        shows(reference(replace(one, colour="red")), one)


@pytest.mark.parametrize("seeds", [range(50), range(50, 100), range(100, 150)])
def test_what_a_caption_says_of_a_drawn_thing_can_be_seen(seeds):
    for seed in seeds:
        for one in draw_scene(seed, 1).things:
            shows(reference(one), one)


def test_a_reference_on_black_is_noticed(monkeypatch):
    one, to_bytes = thing("ball"), rendering.to_bytes
    monkeypatch.setattr(rendering, "to_bytes", lambda picture: 255 - to_bytes(picture))
    with pytest.raises(AssertionError):
        shows(reference(one), one)
