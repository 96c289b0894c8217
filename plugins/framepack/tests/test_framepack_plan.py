"""Sections, frame indices and pixel frames are those of the official loops."""

from __future__ import annotations

import pytest
from support import golden, golden_names

from vace_adapt.parity.golden import read_golden
from vace_adapt.time_map import TimeMap
from vace_adapt_framepack.plan import SectionLayout, forward_layout, in_time, inverted_layout, paddings


@pytest.mark.parametrize("name", [n for n in golden_names("framepack_hunyuan") if "sections" in n])
def test_indices_of_the_official_loop(name):
    file = read_golden(golden(name))
    frames, sections = file.value("window"), file.value("sections")
    for call in file.value("calls"):
        if file.value("mode") == "f1":
            layout = forward_layout(frames)
        else:
            layout = inverted_layout(frames, paddings(sections)[call["section"]])
        came = SectionLayout(*(tuple(call[key]) for key in KEYS))
        assert layout == came


KEYS = ("latent_indices", "clean_latent_indices", "clean_latent_2x_indices", "clean_latent_4x_indices")


def test_paddings_are_no_distances_over_four_sections():
    assert [paddings(n) for n in (1, 4, 5, 7)] == [(0,), (3, 2, 1, 0), (3, 2, 2, 1, 0), (3, 2, 2, 2, 2, 1, 0)]
    assert [in_time(order, 5, inverted=True) for order in range(5)] == [4, 3, 2, 1, 0]
    assert [in_time(order, 5, inverted=False) for order in range(5)] == [0, 1, 2, 3, 4]


def test_pixel_frames_of_sections():
    """Helios: 33 frames each, alone. FramePack: 36 each behind the start frame, in one video."""
    alone, one = TimeMap(9, 9, restarts=True), TimeMap(10, 9)
    assert [alone.pixel_start(k) for k in range(4)] == [33 * k for k in range(4)]
    assert [one.pixel_start(k) for k in range(1, 4)] == [36 * k + 1 for k in range(1, 4)]
    assert alone.groups(2) == alone.groups(0)
    assert [list(group) for group in alone.groups(2)[:2]] == [[0], [1, 2, 3, 4]]
