from __future__ import annotations

import pytest
import torch

from vace_adapt.errors import InputError
from vace_adapt.streaming.noise import draw
from vace_adapt.streaming.queue import ControlQueue


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


def numbered(start: int, count: int) -> torch.Tensor:
    """Frame t is uniformly t bright."""
    return torch.arange(start, start + count, dtype=torch.uint8).view(1, count, 1, 1, 1).expand(1, count, 2, 2, 3)


def numbers(pixels: torch.Tensor) -> list[int]:
    return ((pixels[0, 0, :, 0, 0] + 1) * 127.5).round().int().tolist()


def test_queue_uses_every_frame_once_in_order():
    queue = ControlQueue()
    seen = []
    queue.add(numbered(0, 4), None, last=False)
    with pytest.raises(InputError):
        queue.check(9, 0)
    queue.add(numbered(4, 20), None, last=True)
    for needed in (9, 12):
        queue.check(needed, 0)
        seen += numbers(queue.take(needed).frames)
    last = queue.take(12)
    assert last.real == 3
    assert numbers(last.frames) == [21, 22, 23] + [23] * 9
    assert seen == list(range(21))
    assert queue.take(12) is None


def test_queue_masks_only_where_one_was_given():
    queue = ControlQueue()
    queue.add(numbered(0, 4), None, last=False)
    queue.add(numbered(4, 5), torch.zeros(1, 5, 2, 2, dtype=torch.uint8), last=False)
    assert queue.take(9).mask[0, 0, :, 0, 0].tolist() == [1] * 4 + [0] * 5
    queue.add(numbered(9, 12), None, last=False)
    assert queue.take(12).mask is None
