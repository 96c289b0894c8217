"""Pasting kept pixels back: exact where kept, free of the source elsewhere, linear between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import frames

from vace_adapt.composition import seam as seam_module
from vace_adapt.composition.seam import paste
from vace_adapt.errors import InputError

HEIGHT, WIDTH = 20, 28

seeds, widths = st.integers(0, 2**31), st.integers(0, 9)


def pictures(seed, count=2):
    return frames(count, seed, HEIGHT, WIDTH)


def some_masks(seed, count=2):
    """Blocks of soft and hard values, so that kept and generated regions have an inside."""
    coarse = np.random.default_rng(seed).choice(np.array([0, 90, 127, 128, 255], np.uint8), (count, 4, 4))
    return coarse.repeat(5, axis=1).repeat(7, axis=2)


@settings(max_examples=60, deadline=None)
@given(seeds, widths)
def test_kept_pixels_are_the_sources(seed, width):
    generated, source, mask = pictures(seed), pictures(seed + 1), some_masks(seed)
    made = paste(generated, source, mask, width)
    kept = mask <= 127
    assert np.array_equal(made[kept], source[kept])
    assert made.dtype == np.uint8


@settings(max_examples=60, deadline=None)
@given(seeds, widths)
def test_nothing_under_the_mask_leaks(seed, width):
    generated, source, mask = pictures(seed), pictures(seed + 1), some_masks(seed)
    other = np.where(mask[..., None] > 127, pictures(seed + 2), source)
    assert np.array_equal(paste(generated, source, mask, width), paste(generated, other, mask, width))


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 9))
def test_the_seam_is_linear_from_the_nearest_kept_pixel(seed, width):
    """One colour is kept, one generated: only distances count. Chamfer distances are within 3 % of Euclidean ones."""
    mask = some_masks(seed)
    generated = np.full((2, HEIGHT, WIDTH, 3), 200, np.uint8)
    made = paste(generated, np.full_like(generated, 40), mask, width)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for picture, keep in zip(made, mask <= 127, strict=True):
        if not keep.any():
            assert (picture == 200).all()
            continue
        rows, columns = np.nonzero(keep)
        distance = np.sqrt(((y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2).min(axis=-1))
        exact = 40 + 160 * np.clip(distance / (width + 1), 0, 1)
        assert (np.abs(picture - exact[..., None]) <= 0.5 + 0.03 * (exact[..., None] - 40)).all()


def test_the_colour_is_the_nearest_ones():
    """Every kept column has its own colour, generated is a band of rows: each pixel fades from its own column."""
    source = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    source[..., 0] = 9 * np.arange(WIDTH)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:] = 255
    made = paste(np.full_like(source, 250), source, mask, 3)[0, ..., 0].astype(float)
    for distance in (1, 2, 3, 4, 9):
        share = min(1, distance / 4)
        assert np.array_equal(made[4 + distance], np.rint(250 * share + source[0, 0, :, 0] * (1 - share)))


def test_no_seam_is_a_hard_edge():
    generated, source, mask = pictures(0), pictures(1), some_masks(2)
    assert np.array_equal(paste(generated, source, mask), np.where(mask[..., None] <= 127, source, generated))


def test_all_or_nothing(monkeypatch):
    """Neither needs a distance."""
    monkeypatch.delattr(seam_module.cv2, "distanceTransformWithLabels")
    generated, source = pictures(0), pictures(1)
    assert np.array_equal(paste(generated, source, np.full((HEIGHT, WIDTH), 255, np.uint8), 5), generated)
    assert np.array_equal(paste(generated, source, np.zeros((HEIGHT, WIDTH), np.uint8), 5), source)
    with pytest.raises(AttributeError):
        paste(generated, source, some_masks(0), 5)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 4))
def test_every_frame_on_its_own(seed, cut):
    generated, source, mask = pictures(seed, 5), pictures(seed + 1, 5), some_masks(seed, 5)
    before = [array.copy() for array in (generated, source, mask)]
    whole = paste(generated, source, mask, 4)
    parts = [paste(generated[part], source[part], mask[part], 4) for part in (slice(cut), slice(cut, None))]
    assert np.array_equal(whole, np.concatenate(parts))
    assert all(np.array_equal(a, b) for a, b in zip((generated, source, mask), before, strict=True))
    assert not np.shares_memory(whole, generated)
    assert not np.shares_memory(whole, source)


def test_one_mask_for_all_frames():
    generated, source, mask = pictures(0, 3), pictures(1, 3), some_masks(3)[0]
    assert np.array_equal(paste(generated, source, mask, 4), paste(generated, source, np.stack([mask] * 3), 4))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"generated": np.zeros((2, 4, 4, 3))}, "generated must be uint8 [T, H, W, 3], not float64 [2, 4, 4, 3]"),
        ({"kept_frames": np.zeros((2, 4, 4), np.uint8)}, "kept frames must be uint8 [T, H, W, 3], not uint8 [2, 4, 4]"),
        ({"kept_frames": np.zeros((1, 4, 4, 3), np.uint8)}, "generated is [2, 4, 4, 3], kept frames are [1, 4, 4, 3]"),
        ({"mask": np.zeros((3, 4, 4), np.uint8)}, "mask is [3, 4, 4], the frames need [2, 4, 4]"),
        ({"mask": np.zeros((4, 5), np.uint8)}, "mask is [4, 5], the frames need [4, 4]"),
        ({"mask": np.zeros((4, 4), bool)}, "mask must be uint8 [H, W] or [T, H, W], not bool [4, 4]"),
        ({"seam": -1}, "seam must be 0 pixels or more, not -1"),
    ],
)
def test_mistakes(change, text):
    fitting = {
        "generated": np.zeros((2, 4, 4, 3), np.uint8),
        "kept_frames": np.zeros((2, 4, 4, 3), np.uint8),
        "mask": np.zeros((4, 4), np.uint8),
        "seam": 2,
    }
    paste(**fitting)
    with pytest.raises(InputError) as error:
        paste(**{**fitting, **change})
    assert str(error.value) == text
