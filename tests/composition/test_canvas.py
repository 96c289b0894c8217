"""Outpainting: equal to VACE's own canvas; on a canvas of fixed size, every pixel accounted for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.numpy import load_file
from support import GOLDEN, frames

from vace_adapt.composing import Outpaint
from vace_adapt.composition.canvas import Placement, best_canvas, canvas_mask, on_canvas, place_in
from vace_adapt.errors import InputError

OFFICIAL = load_file(GOLDEN / "annotators" / "outpainting.safetensors")
SIZE = OFFICIAL["input.frames"].shape[1:3]

PLACED = {
    "left_right": Placement(64, 144, 0, 24, *SIZE),
    "all": Placement(102, 152, 19, 28, *SIZE),
    "up_pad8": Placement(80, 96, 16, 0, *SIZE),
    "inner_left_right": place_in(*SIZE, Outpaint(left=0.25, right=0.25, inner=True)),
    "inner_down": place_in(*SIZE, Outpaint(down=0.3, inner=True)),
}

ratios = st.floats(0, 4)
outer = st.builds(Outpaint, left=ratios, right=ratios, up=st.floats(0.1, 4), down=ratios)
less = st.floats(0, 0.49)
inner = st.builds(Outpaint, left=less, right=less, up=st.floats(0.1, 0.49), down=less, inner=st.just(True))
sides = st.integers(1, 80).map(lambda units: 16 * units)


# --- against the official code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLACED)
def test_equal_to_vace(name):
    placement = PLACED[name]
    made = on_canvas(torch.from_numpy(OFFICIAL["input.frames"]), placement, 128)
    assert np.array_equal(made, OFFICIAL[f"output.{name}.frames"])
    mask = canvas_mask(placement, vace_edge=True)
    assert all(np.array_equal(mask, official) for official in OFFICIAL[f"output.{name}.masks"])


@pytest.mark.parametrize("name", PLACED)
def test_only_the_inner_mask_differs_by_default(name):
    """VACE's keeps a column and a row more than it shows."""
    official = OFFICIAL[f"output.{name}.masks"][0]
    mask = canvas_mask(PLACED[name])
    shown = (OFFICIAL[f"output.{name}.frames"] != 128).any(axis=(0, 3))
    assert not (shown & (mask == 255)).any()
    assert np.array_equal(mask, official) == (not name.startswith("inner"))
    extra = {"inner_left_right": 64, "inner_down": 96}.get(name, 0)
    assert np.count_nonzero((mask == 255) & (official == 0)) == extra
    assert not ((mask == 0) & (official == 255)).any()


# --- a canvas of fixed size -------------------------------------------------------------------------------------------


def test_placement_in_numbers():
    assert place_in(480, 832, Outpaint(left=0.25, right=0.25)) == Placement(480, 832, 0, 138, 480, 555)
    assert place_in(480, 832, Outpaint(left=1)) == Placement(480, 832, 0, 416, 480, 416)
    assert place_in(480, 832, Outpaint(up=0.5, down=1.5)) == Placement(480, 832, 80, 0, 160, 832)
    assert place_in(480, 832, Outpaint(up=0.25, right=0.1, inner=True)) == Placement(480, 832, 120, 0, 360, 749, True)


@settings(max_examples=200, deadline=None)
@given(sides, sides, outer)
def test_the_source_has_its_share(height, width, outpaint):
    """Within half a pixel of the exact place; a side without room is touched exactly."""
    placement = place_in(height, width, outpaint)
    across, along = 1 + outpaint.left + outpaint.right, 1 + outpaint.up + outpaint.down
    assert abs(placement.width - width / across) <= 0.5
    assert abs(placement.height - height / along) <= 0.5
    assert abs(placement.left - outpaint.left * width / across) <= 1
    assert abs(placement.top - outpaint.up * height / along) <= 1
    assert outpaint.left > 0 or placement.left == 0
    assert outpaint.right > 0 or placement.left + placement.width == width
    assert outpaint.down > 0 or placement.top + placement.height == height
    assert (placement.source_height, placement.source_width) == (placement.height, placement.width)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.one_of(outer, inner), st.integers(0, 255))
def test_every_pixel_is_kept_or_new(rows, columns, outpaint, fill):
    height, width = 16 * rows, 16 * columns
    placement = place_in(height, width, outpaint)
    source = frames(2, height=placement.source_height, width=placement.source_width)
    own = frames(2, 1, height=placement.source_height, width=placement.source_width)[..., 0]
    before, own_before = source.copy(), own.copy()
    picture = on_canvas(torch.from_numpy(source), placement, fill).numpy()
    mask = canvas_mask(placement, own)
    assert picture.shape == (2, height, width, 3)
    seen = np.zeros((height, width), bool)
    seen[placement.top : placement.top + placement.height, placement.left : placement.left + placement.width] = True
    assert (picture[:, ~seen] == fill).all()
    assert (mask[:, ~seen] == 255).all()
    shown = source[:, seen] if outpaint.inner else source.reshape(2, -1, 3)
    assert np.array_equal(picture[:, seen], shown)
    assert np.array_equal(mask[:, seen], own[:, seen] if outpaint.inner else own.reshape(2, -1))
    assert np.array_equal(canvas_mask(placement) == 0, seen)
    assert np.array_equal(source, before)
    assert np.array_equal(own, own_before)


def test_any_leading_axes_and_numbers():
    placement = place_in(32, 48, Outpaint(left=0.5))
    levels = torch.rand((2, 3, 32, 32, 1), generator=torch.Generator().manual_seed(0))
    made = on_canvas(levels, placement, 0.5)
    assert made.dtype == torch.float32
    assert torch.equal(made[..., 16:, :], levels)
    assert (made[..., :16, :] == 0.5).all()


@pytest.mark.parametrize(
    ("outpaint", "text"),
    [
        (
            Outpaint(left=0.01),
            "the source, 32x48 at row 0, column 0, fills a canvas of 32x48: nothing would be generated; use larger ratios",
        ),
        (
            Outpaint(up=0.03, inner=True),
            "the source, 32x48 at row 0, column 0, fills a canvas of 32x48: nothing would be generated; use larger ratios",
        ),
    ],
)
def test_too_little_room(outpaint, text):
    with pytest.raises(InputError) as error:
        place_in(32, 48, outpaint)
    assert str(error.value) == text


def test_placements_that_cannot_be():
    for placed in ((0, 0, 33, 48), (-1, 0, 20, 20), (0, 0, 0, 48), (20, 0, 13, 48)):
        with pytest.raises(InputError, match=r"does not lie on a canvas of 32x48$"):
            Placement(32, 48, *placed)


def test_frames_of_another_size():
    placement = place_in(32, 48, Outpaint(left=0.5))
    text = "32x48 (height x width) came, the source of this canvas is 32x32"
    with pytest.raises(InputError) as error:
        on_canvas(torch.from_numpy(frames(1)), placement, 128)
    assert str(error.value) == f"frames: {text}"
    with pytest.raises(InputError) as error:
        canvas_mask(placement, frames(1)[..., 0])
    assert str(error.value) == f"mask: {text}"
    with pytest.raises(InputError, match="^mask must be uint8, not float32$"):
        canvas_mask(placement, np.zeros((32, 32), np.float32))


# --- the best canvas --------------------------------------------------------------------------------------------------


def test_best_canvas_in_numbers():
    assert best_canvas(480, 832, Outpaint(left=0.5, right=0.5), 480 * 832) == (336, 1168)  # of 339.4 x 1176.6
    assert best_canvas(240, 320, Outpaint(down=1), 10**9) == (480, 320)
    assert best_canvas(250, 330, Outpaint(down=1), 10**9) == (496, 320)
    assert best_canvas(480, 640, Outpaint(down=1), 480 * 640 // 2, unit=16) == (480, 320)
    assert best_canvas(480, 832, Outpaint(left=0.2, inner=True), 480 * 832) == (480, 832)


@settings(max_examples=200, deadline=None)
@given(st.integers(64, 2000), st.integers(64, 2000), st.one_of(outer, inner), st.integers(60000, 10**6))
def test_best_canvas_is_within_bounds(height, width, outpaint, area):
    full_height, full_width = float(height), float(width)
    if not outpaint.inner:
        full_height *= 1 + outpaint.up + outpaint.down
        full_width *= 1 + outpaint.left + outpaint.right
    scale = min(1, (area / (full_height * full_width)) ** 0.5)
    assume(min(full_height, full_width) * scale > 16)
    made_height, made_width = best_canvas(height, width, outpaint, area)
    assert made_height % 16 == made_width % 16 == 0
    assert made_height * made_width <= area
    assert made_height <= full_height * (1 + 1e-9)
    assert made_width <= full_width * (1 + 1e-9)
    assert full_height * scale - made_height < 16
    assert full_width * scale - made_width < 16


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            (2000, 15, Outpaint(up=4), 480 * 832),
            "2000x15 with its new room is 10000x15 (height x width), too small or narrow for sides of at least 16 within 399360 pixels",
        ),
        ((0, 20, Outpaint(up=4), 480), "height, width, area and unit must be 1 or more, not 0, 20, 480 and 16"),
    ],
)
def test_no_canvas(call, text):
    with pytest.raises(InputError) as error:
        best_canvas(*call)
    assert str(error.value) == text


# --- the settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given_ratios",
    [{}, {"left": -0.1}, {"left": 4.1}, {"left": float("nan")}, {"left": 0.5, "right": 0.5, "inner": True}, {"top": 1}],
)
def test_ratios_that_make_no_sense(given_ratios):
    with pytest.raises(ValidationError):
        Outpaint(**given_ratios)
