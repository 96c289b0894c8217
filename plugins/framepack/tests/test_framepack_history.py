"""The packed history is the newest frames of everything that was made, in memory of one size."""

from __future__ import annotations

import pytest
import torch

from vace_adapt_framepack.history import PackedHistory

SHAPE = (2, 3, 9, 2, 4)


def history(**options):
    return PackedHistory(SHAPE, dtype=torch.float32, device=torch.device("cpu"), **options)


def sections(count, frames=9):
    torch.manual_seed(0)
    return [torch.randn(2, 3, frames, 2, 4) for _ in range(count)]


@pytest.mark.parametrize("frames", [5, 9, 19, 21])
def test_forward_history_is_the_tail(frames):
    held, everything = history(), torch.zeros(2, 3, 19, 2, 4)
    for section in sections(5, frames):
        held.push(section)
        everything = torch.cat([everything, section], dim=2)
        packed = held.pack()
        assert torch.equal(packed.far, everything[:, :, -19:-3])
        assert torch.equal(packed.mid, everything[:, :, -3:-1])
        assert torch.equal(packed.clean[:, :, 1:], everything[:, :, -1:])


@pytest.mark.parametrize("frames", [5, 9, 21])
def test_inverted_history_is_the_head(frames):
    held, everything = history(inverted=True), torch.zeros(2, 3, 19, 2, 4)
    for section in sections(5, frames):
        held.push(section)
        everything = torch.cat([section, everything], dim=2)
        packed = held.pack()
        assert torch.equal(packed.clean[:, :, 1:], everything[:, :, :1])
        assert torch.equal(packed.mid, everything[:, :, 1:3])
        assert torch.equal(packed.far, everything[:, :, 3:19])


def test_the_start_frame_stays():
    held, start = history(), torch.ones(2, 3, 1, 2, 4)
    held.begin(start)
    for section in sections(4):
        held.push(section)
    assert torch.equal(held.pack().clean[:, :, :1], start)


def test_positions():
    held = history()
    assert list(held.positions()) == [-1] * 20
    for section in sections(2):
        held.push(section)
    assert list(held.positions()) == [-1, -1, *range(18)]
    held.push(sections(1)[0])
    assert list(held.positions()) == [0, *range(8, 27)]


def test_snapshots_and_reset():
    held = history()
    held.push(sections(1)[0])
    kept, before = held.snapshot(), {name: t.clone() for name, t in held.tensors().items()}
    held.push(sections(2)[1])
    held.restore(kept)
    assert all(torch.equal(t, before[name]) for name, t in held.tensors().items())
    assert held.end == 9
    held.reset()
    assert not any(t.any() for t in held.tensors().values())
    assert held.end == 0
