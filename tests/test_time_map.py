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


@pytest.mark.parametrize(("first", "rest"), [(9, 9), (3, 2), (1, 1)])
def test_chunks_that_are_videos_of_their_own(first, rest):
    """The rule begins anew with each chunk; every frame is still in exactly one latent of one chunk."""
    time, chunks = TimeMap(first, rest, restarts=True), 4
    for chunk in range(chunks):
        alone = TimeMap(time.latents(chunk), 1)
        assert time.pixels(chunk) == alone.pixels(0)
        assert time.groups(chunk) == alone.groups(0)
        assert [time.place(time.latent_start(chunk) + i) for i in range(time.latents(chunk))] == [
            *range(time.latents(chunk))
        ]
        assert all(time.chunk_of(f) == chunk for f in range(time.pixel_start(chunk), time.pixel_start(chunk + 1)))
    everything = [
        f
        for c in range(chunks)
        for group in time.groups(c)
        for f in range(time.pixel_start(c) + group.start, time.pixel_start(c) + group.stop)
    ]
    assert everything == list(range(time.pixel_start(chunks)))
    assert all(f in time.group(f) for f in everything)


def test_a_video_that_goes_on_has_the_groups_of_the_whole():
    time = TimeMap(3, 2)
    assert [time.place(latent) for latent in range(9)] == list(range(9))
    assert [list(time.group(frame)) for frame in (0, 1, 9, 12)] == [[0], [1, 2, 3, 4], [9, 10, 11, 12], [9, 10, 11, 12]]
    assert time.groups(1) == groups(3, 2)
