"""Keyframes and clips on a stream: where they land, and where they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from support import HEIGHT, WIDTH, frames, opened, picture, shown

from vace_adapt.errors import InputError


def test_land_on_a_picture_in_some_chunks(pipe):
    target = picture(3, HEIGHT, WIDTH)
    with opened(pipe) as session:
        next(session)
        session.keyframe(target, chunks=2)
        assert next(session).control is None
        landing = next(session)
    mask = landing.mask[0].numpy()
    assert [t for t in range(12) if not mask[t].any()] == [8, 9, 10, 11]
    assert all(np.array_equal(landing.control[0, t], target) for t in range(8, 12))
    assert landing.report.controlled


def test_a_clip_over_two_chunks(pipe):
    clip = frames(8, 5)
    with opened(pipe, num_frames=21, controls={"anchor": "frame"}) as session:
        session.keyframe(clip, frame=5)
        chunks = list(session)
    made, mask = shown(chunks), np.concatenate([c.mask[0].numpy() for c in chunks])
    assert np.array_equal(made[5:13], clip)
    assert [t for t in range(21) if not mask[t].any()] == list(range(5, 13))


def test_a_keyframe_over_fed_frames(pipe):
    fed, target = frames(9), picture(3, HEIGHT, WIDTH)
    with opened(pipe, num_frames=9) as session:
        session.feed(fed)
        session.keyframe(target, frame=0)
        (chunk,) = session
    assert np.array_equal(chunk.control[0], np.concatenate([target[None], fed[1:]]))
    assert np.array_equal(chunk.mask[0, :, 0, 0], [0] + [255] * 8)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "a keyframe needs exactly one place: frame, end or chunks"),
        ({"frame": 1, "end": 2}, "a keyframe needs exactly one place: frame, end or chunks"),
        ({"frame": 5}, "a keyframe at frame 5 is too late: the next frame to be made is 9"),
        ({"frame": 1.5}, "frame must be a whole number, not 1.5"),
        ({"chunks": "a"}, "chunks must be a whole number, not 'a'"),
        ({"chunks": 0}, r"chunks must be at least 1 \(the next chunk\), not 0"),
        ({"end": -30}, "keyframes that end with frame -9 would begin with frame -9, before the stream"),
        ({"end": 21}, "a keyframe at frame 21 is past the end: 21 frames are made"),
        ({"frame": 25}, "a keyframe at frame 25 is past the end: 21 frames are made"),
    ],
)
def test_places_that_are_refused(pipe, place, text):
    with opened(pipe, num_frames=21) as session:
        next(session)
        with pytest.raises(InputError, match=text):
            session.keyframe(picture(0, HEIGHT, WIDTH), **place)
        assert not next(session).report.controlled


def test_a_keyframe_past_the_end_of_the_control(pipe):
    with opened(pipe, num_frames=33) as session:
        session.keyframe(picture(0, HEIGHT, WIDTH), end=-1)
        with pytest.raises(InputError, match="a keyframe at frame 32 is past the end: the control ends after 9 frames"):
            session.feed(frames(9), last=True)
        session.feed(frames(33), last=True)
    with opened(pipe) as session:
        session.feed(frames(9), last=True)
        with pytest.raises(InputError, match="a keyframe at frame 9 is past the end: the control ends after 9 frames"):
            session.keyframe(picture(0, HEIGHT, WIDTH), frame=9)
        assert next(session).report.controlled


def test_rows_have_their_own_keyframes(pipe):
    pictures = np.stack([frames(2, 1), frames(2, 2)])
    with opened(pipe, seed=[0, 1], num_frames=9) as session:
        session.keyframe(pictures, frame=5)
        made = next(session).control.numpy()
    assert np.array_equal(made[:, 5], pictures[:, 0])
    assert np.array_equal(made[:, 8], pictures[:, 1])


def test_from_the_end_of_a_stream_without_end(pipe):
    with (
        opened(pipe) as session,
        pytest.raises(
            InputError, match="end=-1 counts from the end of a stream, and this one has none: give num_frames"
        ),
    ):
        session.keyframe(picture(0, HEIGHT, WIDTH), end=-1)


def test_pictures_of_another_size(pipe, tmp_path):
    from PIL import Image

    with opened(pipe, num_frames=9) as session:
        with pytest.raises(InputError, match=r"keyframe is 40x30 \(height x width\), the stream is 32x48"):
            session.keyframe(picture(), frame=0)
        session.keyframe(Image.fromarray(picture()), frame=0)
        assert next(session).report.controlled
