"""Control fidelity, on pictures whose answer can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vace_adapt.metrics import control


def lines(*columns: int, frames: int = 2, width: int = 20) -> np.ndarray:
    made = np.zeros((frames, 10, width), bool)
    made[:, :, list(columns)] = True
    return made


def test_edges_that_meet():
    assert control.edge_f1(lines(5), lines(5)) == 1.0
    assert control.edge_f1(lines(5), lines(6)) == 1.0, "one pixel off is found"
    assert control.edge_f1(lines(5), lines(7)) == 0.0
    assert control.edge_f1(lines(5, 15), lines(5)) == pytest.approx(2 / 3), "precision 1/2, recall 1"
    assert control.edge_f1(lines(5), lines(5, 15)) == pytest.approx(2 / 3), "precision 1, recall 1/2"
    assert control.edge_f1(lines(5), lines(7), tolerance=2) == 1.0
    assert math.isnan(control.edge_f1(lines(), lines()))
    where = np.zeros((2, 10, 20), bool)
    where[:, :, :10] = True
    assert control.edge_f1(lines(5, 15), lines(5), where) == 1.0, "what does not count does not count"


def test_outlines_are_where_the_levels_change():
    picture = np.zeros((1, 20, 20, 3), np.uint8)
    picture[:, :, 10:] = 255
    rows, columns = np.nonzero(control.outlines(picture)[0])
    assert len(rows) >= 18
    assert set(columns) <= {9, 10}


def test_gray_follows_gray_whatever_its_level_and_colour():
    wanted = np.random.default_rng(0).integers(0, 100, (2, 8, 8, 1), dtype=np.uint8).repeat(3, axis=-1)
    assert control.gray_correlation(wanted * 2 + 10, wanted) == pytest.approx(1)
    assert control.gray_correlation(200 - wanted, wanted) == pytest.approx(-1)
    assert math.isnan(control.gray_correlation(np.zeros_like(wanted), wanted)), "one level follows nothing"
    half = np.zeros((2, 8, 8), bool)
    half[:, :4] = True
    mixed = wanted.copy()
    mixed[:, 4:] = 255 - mixed[:, 4:]
    assert control.gray_correlation(mixed, wanted, half) == pytest.approx(1)
    assert control.gray_correlation(mixed, wanted) < 0.5


def moving(pixels: int, frames: int = 4) -> np.ndarray:
    """A smooth picture that moves to the right."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    large = noise.repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([np.roll(large, i * pixels, axis=1) for i in range(frames)])


def test_flow_error_is_in_pixels_a_frame():
    inside = np.zeros((4, 64, 96), bool)
    inside[:, 16:48, 24:72] = True
    assert control.flow_error(moving(2), moving(2)) == 0
    assert control.flow_error(moving(2), moving(0), inside) == pytest.approx(2, abs=0.2)
    assert control.flow_error(moving(2), moving(-1), inside) == pytest.approx(3, abs=0.3)
    assert math.isnan(control.flow_error(moving(1, frames=1), moving(1, frames=1)))


def test_masks_overlap():
    assert control.mask_iou(lines(1, 2), lines(2, 3)) == pytest.approx(1 / 3)
    assert control.mask_iou(lines(1), lines(1)) == 1
    assert math.isnan(control.mask_iou(lines(), lines()))


def test_what_changed_is_what_differs_clearly_in_any_channel():
    source = np.full((1, 2, 2, 3), 100, np.uint8)
    made = source.copy()
    made[0, 0, 0, 1], made[0, 0, 1] = 133, 132
    assert control.changed(made, source).tolist() == [[[True, False], [False, False]]]


def test_boxes_overlap():
    wanted = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], float)
    made = np.array([[5, 0, 15, 10], [20, 20, 30, 30]], float)
    assert control.box_iou(made, wanted) == pytest.approx((50 / 150 + 0) / 2)
    assert control.box_iou(wanted, wanted) == 1
    assert control.box_iou(np.zeros((2, 4)), wanted) == 0


def test_an_object_is_followed():
    frames = np.zeros((6, 64, 64, 3), np.uint8)
    noise = np.random.default_rng(0).integers(60, 256, (16, 16, 3), dtype=np.uint8)
    for i, frame in enumerate(frames):
        frame[20:36, 10 + 2 * i : 26 + 2 * i] = noise
    wanted = np.array([[10 + 2 * i, 20, 26 + 2 * i, 36] for i in range(6)], float)
    made = control.tracked_boxes(frames, (10 / 64, 20 / 64, 26 / 64, 36 / 64))
    assert control.box_iou(made, wanted) > 0.75
    assert control.box_iou(made[:1].repeat(6, axis=0), wanted) < 0.7, "one that stands still does not follow"
