from __future__ import annotations

import pytest

from vace_adapt.errors import InputError
from vace_adapt.time_map import TimeMap, group_of, groups, latent_of, pixels_of


@pytest.mark.parametrize(
    ("first", "rest", "sizes"), [(3, 3, [9, 12, 12]), (2, 1, [5, 4, 4]), (1, 1, [1, 4, 4]), (9, 9, [33, 36])]
)
def test_pixel_frames_of_chunks(first, rest, sizes):
    time = TimeMap(first, rest)
    assert [time.pixels(i) for i in range(len(sizes))] == sizes
    assert [time.pixel_start(i) for i in range(len(sizes))] == [sum(sizes[:i]) for i in range(len(sizes))]


@pytest.mark.parametrize(("first", "rest"), [(3, 3), (2, 1), (1, 4)])
def test_every_pixel_frame_belongs_to_exactly_one_latent_and_chunk(first, rest):
    time = TimeMap(first, rest)
    chunks = 5
    total = sum(time.pixels(i) for i in range(chunks))
    by_latent = [frame for latent in range(time.latent_start(chunks)) for frame in group_of(latent)]
    by_chunk = [
        time.pixel_start(i) + frame
        for i in range(chunks)
        for group in groups(time.latent_start(i), time.latents(i))
        for frame in group
    ]
    assert by_latent == by_chunk == list(range(total))


def test_first_latent_is_one_frame_then_four():
    assert [list(group_of(k)) for k in range(3)] == [[0], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert [pixels_of(k) for k in range(4)] == [0, 1, 5, 9]


def test_mistakes_are_named():
    with pytest.raises(InputError, match="time map: rest must be at least 1, not 0"):
        TimeMap(3, 0)


def test_the_chunk_and_the_latent_of_every_frame():
    for time in (TimeMap(3, 3), TimeMap(1, 2), TimeMap(2, 1, stride=2)):
        for chunk in range(4):
            for frame in range(time.pixel_start(chunk), time.pixel_start(chunk + 1)):
                assert time.chunk_of(frame) == chunk
                assert frame in group_of(latent_of(frame, time.stride), time.stride)
