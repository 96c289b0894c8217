"""Keeping, looks, motion and time, on values that can be worked out by hand."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from vace_adapt.errors import InputError
from vace_adapt.metrics import appearance, motion, preservation, timing


def noise(frames: int = 3, seed: int = 0, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


EVERYWHERE = np.ones((3, 32, 32), bool)


def test_psnr_by_hand():
    source = np.full((3, 32, 32, 3), 100, np.uint8)
    assert preservation.psnr(source + 10, source, EVERYWHERE) == pytest.approx(10 * math.log10(255**2 / 100))
    assert preservation.psnr(source, source, EVERYWHERE) == 100
    half = EVERYWHERE.copy()
    half[:, 16:] = False
    made = source.copy()
    made[:, 16:] = 0
    assert preservation.psnr(made, source, half) == 100, "what was to be made anew does not count"
    assert preservation.psnr(made, source, EVERYWHERE) == pytest.approx(10 * math.log10(255**2 / 5000))
    assert math.isnan(preservation.psnr(made, source, ~EVERYWHERE))


def test_ssim():
    pytest.importorskip("skimage")
    source = noise()
    assert preservation.ssim(source, source, EVERYWHERE) == pytest.approx(1)
    assert preservation.ssim(noise(seed=1), source, EVERYWHERE) < 0.1
    flat, other = np.full((3, 32, 32, 3), 100, np.uint8), np.full((3, 32, 32, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    by_hand = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert preservation.ssim(other, flat, EVERYWHERE) == pytest.approx(by_hand), "flat pictures: luminance alone"
    half = EVERYWHERE.copy()
    half[:, 10:] = False
    made = source.copy()
    made[:, 26:] = 0
    assert preservation.ssim(made, source, half) == pytest.approx(1)


def test_without_scikit_image_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(InputError, match=r"SSIM needs scikit-image: pip install 'vace-adapt\[metrics\]'"):
        preservation.ssim(noise(), noise(), EVERYWHERE)


def test_colours_of_a_reference():
    reference = np.full((4, 4, 3), 255, np.uint8)
    reference[:2] = 200, 0, 0  # red on white: the white is no part of it
    red = np.zeros((1, 4, 4, 3), np.uint8) + np.array([200, 0, 0], np.uint8)
    mixed = red.copy()
    mixed[:, :, 1:] = 0, 0, 200
    assert appearance.colour_similarity(red, reference) == 1
    assert appearance.colour_similarity(mixed, reference) == pytest.approx(0.25)
    assert appearance.colour_similarity(mixed, reference, np.arange(4)[None, None] * np.ones((1, 4, 1)) < 1) == 1
    assert math.isnan(appearance.colour_similarity(red, np.full((2, 2, 3), 255, np.uint8)))


def test_drift_of_colour_and_contrast():
    dark, bright = (np.full((2, 4, 4, 3), level, np.uint8) for level in (0, 255))
    assert appearance.colour_drift(bright, dark) == pytest.approx(100, abs=0.1), "black to white is L* 0 to 100"
    assert appearance.colour_drift(dark, dark) == 0
    full, pale = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 60, np.uint8)
    full[:, 0], pale[:, 0] = 255, 180
    assert appearance.contrast_drift(full, full) == pytest.approx(1)
    assert 0.2 < appearance.contrast_drift(pale, full) < 0.8
    assert math.isnan(appearance.contrast_drift(full, dark))


def test_sharpness_by_hand():
    assert appearance.sharpness(np.full((2, 8, 8, 3), 90, np.uint8)) == 0
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 10).astype(np.uint8)[None, ..., None].repeat(3, axis=-1)
    assert appearance.sharpness(board) == pytest.approx(1600), "the Laplacian of a chequerboard of 0 and 10 is +-40"


def moving(frames: int, flicker: int = 0) -> np.ndarray:
    rough = np.random.default_rng(0).integers(40, 200, (16, 16, 3), dtype=np.uint8)
    large = rough.repeat(4, axis=0).repeat(4, axis=1)
    made = np.stack([np.roll(large, i, axis=1) for i in range(frames)]).astype(int)
    made[1::2] += flicker
    return made.clip(0, 255).astype(np.uint8)


def test_motion_is_no_warp_error_and_flicker_is():
    still = np.repeat(moving(1), 4, axis=0)
    assert motion.warp_error(still) == 0
    assert motion.warp_error(moving(4)) < 1
    assert motion.warp_error(moving(4, flicker=40)) == pytest.approx(1000 * (40 / 255) ** 2, rel=0.3)
    naive = 1000 * ((np.diff(moving(4).astype(float), axis=0) / 255) ** 2).mean()
    assert naive > 4 * motion.warp_error(moving(4)), "the mutant that does not move along the flow"
    assert math.isnan(motion.warp_error(moving(1)))


def test_a_jump_between_chunks_by_hand():
    levels = [0, 1, 2, 3, 13, 14, 15, 16, 17, 18]  # one level a frame, ten between the first two chunks
    frames = np.stack([np.full((2, 2, 3), level, np.uint8) for level in levels])
    assert motion.boundary_jumps(frames, [4, 3, 3]) == [10, 1]
    assert motion.boundary_jumps(frames, [3, 4, 3]) == [1, 1], "the jump is inside a chunk"
    assert motion.boundary_jumps(frames, [10]) == []
    assert math.isnan(motion.boundary_jumps(np.zeros((4, 2, 2, 3), np.uint8), [2, 2])[0])


def chunk(seconds: float, pixels: int = 12, cache: int = 0, peak: int = 0) -> dict[str, float]:
    return {"seconds": seconds, "pixels": pixels, "cache_bytes": cache, "peak_memory_bytes": peak}


def test_times_and_memory_by_hand():
    chunks = [chunk(9, 9, peak=2**21), chunk(1, cache=2**20, peak=2**20), *(chunk(i, cache=2**20) for i in (2, 3, 4))]
    assert timing.first_frame_latency(chunks) == 9
    assert timing.chunk_latency(chunks) == 2.5, "the first does not count"
    assert timing.chunk_latency_p95(chunks) == pytest.approx(3.85)
    assert timing.frames_per_second(chunks) == pytest.approx(57 / 19)
    assert (timing.peak_memory(chunks), timing.cache_memory(chunks)) == (2, 1)
    assert timing.chunk_latency(chunks[:1]) == timing.chunk_latency_p95(chunks[:1]) == 9
