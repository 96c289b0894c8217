from __future__ import annotations

import pytest
import torch

from vace_adapt.composition.composer import Given
from vace_adapt.errors import InputError
from vace_adapt.streaming.noise import draw
from vace_adapt.streaming.queue import FeedQueue


def test_noise_depends_on_seed_purpose_and_number_alone():
    first = draw([3], "chunk", 5, (2, 3))
    torch.randn(7)
    draw([3], "chunk", 4, (2, 3))
    assert torch.equal(first, draw([3], "chunk", 5, (2, 3)))
    others = (draw([4], "chunk", 5, (2, 3)), draw([3], "reference", 5, (2, 3)), draw([3], "chunk", 6, (2, 3)))
    assert not any(torch.equal(first, other) for other in others)


def test_noise_rows_are_those_of_their_seeds():
    both = draw([1, 2], "chunk", 0, (2, 3))
    assert torch.equal(both, torch.cat([draw([1], "chunk", 0, (2, 3)), draw([2], "chunk", 0, (2, 3))]))


def test_noise_is_standard_normal():
    noise = draw([0], "chunk", 0, (100_000,))
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02


def numbered(start: int, count: int, mask: torch.Tensor | None = None, **others: torch.Tensor) -> Given:
    """Frame t is uniformly t bright."""
    frames = torch.arange(start, start + count, dtype=torch.uint8).view(1, count, 1, 1, 1).expand(1, count, 2, 2, 3)
    return Given({"input": frames, **others}, mask)


def numbers(given: Given) -> list[int]:
    return given.videos["input"][0, :, 0, 0, 0].tolist()


def test_queue_uses_every_frame_once_in_order():
    queue = FeedQueue()
    seen = []
    queue.add(numbered(0, 4), last=False)
    with pytest.raises(InputError):
        queue.check(9, 0)
    queue.add(numbered(4, 20), last=True)
    for needed in (9, 12):
        queue.check(needed, 0)
        taken, real = queue.take(needed)
        assert real == needed
        seen += numbers(taken)
    last, real = queue.take(12)
    assert real == 3
    assert numbers(last) == [21, 22, 23] + [23] * 9
    assert seen == list(range(21))
    assert queue.take(12) == (None, 0)


def test_queue_masks_only_where_one_was_given():
    queue = FeedQueue()
    queue.add(numbered(0, 9, torch.zeros(1, 9, 2, 2, dtype=torch.uint8)), last=False)
    queue.check(9, 0)
    assert queue.take(9)[0].mask[0, :, 0, 0].tolist() == [0] * 9
    queue.add(numbered(9, 12), last=False)
    assert queue.take(12)[0].mask is None


def test_queue_joins_levels_and_fractions():
    queue = FeedQueue()
    queue.add(numbered(0, 4, torch.full((1, 4, 2, 2), 255, dtype=torch.uint8)), last=False)
    queue.add(Given({"input": torch.full((1, 5, 2, 2, 3), 0.25)}, torch.full((1, 5, 2, 2), 0.5)), last=False)
    taken, _ = queue.take(9)
    assert torch.equal(taken.videos["input"][0, :, 0, 0, 0] * 255, torch.tensor([0, 1, 2, 3, *[63.75] * 5]))
    assert taken.mask[0, :, 0, 0].tolist() == [1] * 4 + [0.5] * 5


def test_a_mask_for_some_frames_of_a_chunk_only():
    queue = FeedQueue()
    queue.add(numbered(0, 4), last=False)
    queue.add(numbered(4, 20, torch.zeros(1, 20, 2, 2, dtype=torch.uint8)), last=True)
    with pytest.raises(InputError, match="chunk 0 has a mask for some frames only: feed it for all or none"):
        queue.check(9, 0)
    queue.check(4, 0)


def test_a_video_for_some_frames_of_a_chunk_only():
    queue = FeedQueue()
    other = torch.zeros((1, 9, 2, 2, 3), dtype=torch.uint8)
    queue.add(numbered(0, 9, depth=other), last=False)
    queue.check(9, 0)
    queue.add(numbered(9, 12), last=False)
    queue.check(9, 0)
    with pytest.raises(InputError, match="chunk 1 has the video depth for some frames only: feed it for all or none"):
        queue.check(12, 1)
    queue.take(9)
    queue.check(12, 1)
