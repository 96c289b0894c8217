"""Mask shapes: equal to VACE's own where VACE has them, to a plain reckoning elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from support import GOLDEN

from vace_adapt.composition import mask_shape
from vace_adapt.composition.mask_shape import augment, box, expand, feather, grow, hull, invert
from vace_adapt.errors import InputError

OFFICIAL = load_file(GOLDEN / "annotators" / "maskaug.safetensors")
EXPAND = {"ratio": 0.4, "sides": (0.9, 0.7, 0.8, 0.6), "iterations": 2}
"""The arguments in the file's metadata."""

EVERY = {
    "grow": lambda mask: grow(mask, 2),
    "shrink": lambda mask: grow(mask, -2),
    "feather": lambda mask: feather(mask, 3),
    "invert": invert,
    "hull": hull,
    "box": box,
    "expand": lambda mask: expand(mask, ratio=1),
    "augment": lambda mask: augment(mask, 4, ratio=2),
}

masks = st.builds(
    lambda seed, height, width, density: some_mask(seed, height, width, density),
    st.integers(0, 2**31),
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0]),
)


def some_mask(seed, height=20, width=30, density=0.02):
    return (np.random.default_rng(seed).random((height, width)) < density).astype(np.uint8) * 255


def squared_distances(region):
    """From every pixel to the nearest of the region, by trying them all."""
    rows, columns = np.nonzero(region)
    y, x = np.mgrid[: region.shape[0], : region.shape[1]]
    return ((y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2).min(axis=-1)


# --- against the official code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "shape"), [("original", lambda mask: mask), ("hull", hull), ("bbox", box)])
def test_equal_to_vace(name, shape):
    made = shape(OFFICIAL["input.mask"])
    assert np.array_equal(made, OFFICIAL[f"output.{name}"])
    assert np.array_equal(expand(made, **EXPAND, vace_edge=True), OFFICIAL[f"output.{name}_expand"])


def test_equal_to_vace_on_a_video():
    assert np.array_equal(box(OFFICIAL["input.masks"]), OFFICIAL["output.bbox_video"])


@pytest.mark.parametrize("change", [{"ratio": 0.1}, {"iterations": 4}, {"sides": (0.7, 0.9, 0.8, 0.6)}])
def test_other_arguments_are_not_equal(change):
    made = expand(OFFICIAL["input.mask"], **{**EXPAND, **change}, vace_edge=True)
    assert not np.array_equal(made, OFFICIAL["output.original_expand"])


# --- expansion --------------------------------------------------------------------------------------------------------


def block(top, bottom, left, right, height=60, width=100):
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def test_expansion_is_what_was_asked_for():
    """A 20x10 box: 0.5 of its sides is 5 rows and 10 columns; the room halved is more."""
    assert np.array_equal(expand(block(20, 30, 40, 60), 0.5, (1, 0.5, 0.2, 0)), block(20 - 1, 30, 40 - 10, 60 + 5))


def test_vace_loses_a_pixel_on_the_furthest_side():
    made = expand(block(20, 30, 40, 60), 0.5, (1, 0.5, 0.2, 0), vace_edge=True)
    assert np.array_equal(made, block(20 - 1, 30, 40 - 9, 60 + 5))


def test_expansion_goes_half_way_to_the_edge():
    """Room: 8 columns on the left, 6 rows above; 100 - 60 columns and 60 - 50 rows from the last pixel to the edge."""
    assert np.array_equal(expand(block(6, 51, 8, 61), 1), block(6 - 3, 51 + 5, 8 - 4, 61 + 20))


def test_expansion_is_rounded_down_in_every_iteration():
    assert np.array_equal(expand(block(20, 30, 40, 60), 0.5, iterations=3), block(20 - 3, 30 + 3, 40 - 9, 60 + 9))
    assert np.array_equal(expand(block(20, 30, 40, 60), 0.1, iterations=3), block(20, 30, 40, 60))


def test_soft_values_expand_as_they_are():
    mask = block(20, 30, 40, 60)
    mask[20:22] = mask[20:22] // 2
    made = expand(mask, 0.5, (0, 0, 1, 0))
    assert np.array_equal(np.unique(made), [0, 127, 255])
    assert (made[22 - 4, 40:60] == 255).all()
    assert (made[22 - 4 - 1, 40:60] == 127).all()


def test_augmentation_is_one_draw_for_a_stream():
    video = np.stack([block(20, 30, 30 + i, 60 + i) for i in range(6)])
    whole = augment(video, 7)
    assert np.array_equal(whole, np.concatenate([augment(video[:1], 7), augment(video[1:4], 7), augment(video[4:], 7)]))
    shifted = [np.roll(frame, -i, axis=1) for i, frame in enumerate(whole)]
    assert all(np.array_equal(frame, shifted[0]) for frame in shifted)


def test_augmentation_follows_its_seed():
    mask = block(40, 60, 70, 110, height=120, width=200)
    made = {augment(mask, seed, ratio=0.9).tobytes() for seed in range(12)}
    assert len(made) > 6
    assert augment(mask, 3, ratio=0.9).tobytes() in made
    assert np.array_equal(augment(mask, 0), augment(mask, 0))


def test_augmentation_leaves_numpys_randomness_alone():
    np.random.seed(1)
    before = np.random.get_state()[1].tobytes()
    augment(block(20, 30, 40, 60), 5)
    assert np.random.get_state()[1].tobytes() == before


# --- growing and fading -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(masks, st.integers(1, 9))
def test_growth_is_euclidean(mask, pixels):
    expected = np.zeros_like(mask)
    if mask.any():
        expected[squared_distances(mask > 127) <= pixels**2] = 255
    assert np.array_equal(grow(mask, pixels), expected)


@settings(max_examples=60, deadline=None)
@given(masks, st.integers(1, 9))
def test_shrinking_is_growing_of_the_rest(mask, pixels):
    assert np.array_equal(grow(mask, -pixels), invert(grow(invert(mask), pixels)))


def test_the_frames_edge_does_not_shrink():
    assert grow(np.full((9, 9), 255, np.uint8), -4).all()
    assert np.array_equal(grow(block(0, 30, 0, 60), -5), block(0, 25, 0, 55))


@settings(max_examples=60, deadline=None)
@given(masks, st.integers(1, 9))
def test_the_ramp_lies_outside(mask, pixels):
    made = feather(mask, pixels)
    if not mask.any():
        assert not made.any()
        return
    distance = np.sqrt(squared_distances(mask > 127))
    ramp = 255 * np.clip(1 - distance / (pixels + 1), 0, 1)
    assert np.abs(made - ramp).max() <= 0.5 + 1e-3
    assert np.array_equal(made == 255, mask > 127)
    assert np.array_equal(made > 0, ramp > 0.5)


def test_a_ramp_in_numbers():
    assert feather(block(0, 1, 0, 2, height=1, width=8), 3).tolist() == [[255, 255, 191, 128, 64, 0, 0, 0]]


def test_nothing_to_do_gives_the_mask_back():
    mask = some_mask(0)
    assert grow(mask, 0) is mask
    assert feather(mask, 0) is mask


# --- shapes -----------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(masks)
def test_hull_and_box_hold_the_mask(mask):
    around, boxed = hull(mask), box(mask)
    assert (around >= mask).all()
    assert (boxed >= around).all()
    rows, columns = np.nonzero(mask)
    assert np.count_nonzero(boxed) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1) if rows.size else not boxed.any()


def test_a_hull_goes_around_all_regions():
    mask = block(10, 12, 10, 12) | block(40, 42, 80, 82)
    inside = hull(mask)
    assert inside[26, 46] == 255
    assert inside[12, 60] == 0


@pytest.mark.parametrize("points", [[(3, 4)], [(3, 4), (9, 12)], [(3, 4), (3, 20)]])
def test_a_hull_of_a_point_or_a_line(points):
    mask = np.zeros((20, 30), np.uint8)
    mask[tuple(np.transpose(points))] = 255
    assert (hull(mask) >= mask).all()
    assert np.count_nonzero(hull(mask)) <= 17


def test_what_is_faint_belongs_to_no_region():
    faint = np.where(some_mask(3) == 255, 255, 127).astype(np.uint8)
    for name in ("grow", "shrink", "feather", "hull", "box"):
        assert np.array_equal(EVERY[name](faint), EVERY[name](some_mask(3))), name
    loud = np.where(some_mask(3) == 255, 255, 128).astype(np.uint8)
    assert box(loud).all()


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_every_frame_on_its_own(name):
    video = np.stack([some_mask(seed, density=0.01 * seed) for seed in range(4)])
    before = video.copy()
    made = EVERY[name](video)
    assert np.array_equal(made, np.stack([EVERY[name](frame) for frame in video]))
    assert made.dtype == np.uint8
    assert np.array_equal(video, before)


@pytest.mark.parametrize("name", sorted(EVERY.keys() - {"invert"}))
def test_an_empty_mask_stays_empty(name):
    assert not EVERY[name](np.zeros((2, 20, 30), np.uint8)).any()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("mask", "came"),
    [
        (np.zeros((4, 4)), "float64 [4, 4]"),
        (np.zeros(4, np.uint8), "uint8 [4]"),
        (np.zeros((1, 2, 4, 4), np.uint8), "uint8 [1, 2, 4, 4]"),
        (np.zeros((0, 4, 4), np.uint8), "uint8 [0, 4, 4]"),
    ],
)
def test_what_is_not_a_mask(name, mask, came):
    with pytest.raises(InputError) as error:
        EVERY[name](mask)
    assert str(error.value) == f"mask must be uint8 [H, W] or [T, H, W], not {came}"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: feather(m, -1), "feather must be 0 pixels or more, not -1"),
        (lambda m: expand(m, -0.1), "expand ratio must be 0 or more, not -0.1"),
        (lambda m: expand(m, float("nan")), "expand ratio must be 0 or more, not nan"),
        (
            lambda m: expand(m, sides=(1, 1, 1)),
            "expand sides must be 4 factors within 0..1 (left, right, top, bottom), not [1, 1, 1]",
        ),
        (
            lambda m: expand(m, sides=(1, 1, 1, 2)),
            "expand sides must be 4 factors within 0..1 (left, right, top, bottom), not [1, 1, 1, 2]",
        ),
        (lambda m: expand(m, iterations=0), "expand iterations must be 1 or more, not 0"),
        (lambda m: augment(m, -1), "augment seed must be 0 or more, not -1"),
    ],
)
def test_numbers_out_of_range(call, text):
    with pytest.raises(InputError) as error:
        call(some_mask(0))
    assert str(error.value) == text


def test_a_wrong_distance_is_noticed(monkeypatch):
    monkeypatch.setattr(mask_shape.cv2, "DIST_L2", mask_shape.cv2.DIST_L1)
    with pytest.raises(AssertionError):
        test_growth_is_euclidean.hypothesis.inner_test(some_mask(1), 5)
