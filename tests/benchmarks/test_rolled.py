"""The cache that the ring is compared with sees and holds what the ring sees and holds."""

from __future__ import annotations

import pytest
import torch
from timing.questions import NotTheSameError, cache
from timing.rolled import RolledCache
from timing.turns import Budget, Running

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.ring import RingCache, RingSpec

CPU = torch.device("cpu")
SIZES = {"layers": 2, "batch": 2, "heads": 2, "head_dim": 12, "dtype": torch.float32, "device": CPU}


def difference(slots: int, sink: int, frames: int, chunks: int = 8) -> float:
    """Largest difference of what passes over chunks of so many frames see: two passes over each chunk."""
    generator = torch.Generator().manual_seed(0)
    rope = RotaryGrid(12, (2, 3), CPU)
    ring, rolled = (kind(RingSpec(slots, sink), rope, **SIZES) for kind in (RingCache, RolledCache))
    worst = 0.0
    for chunk in range(chunks):
        for _ in range(2):
            steps = [held.chunk_pass(chunk * frames, frames) for held in (ring, rolled)]
            for layer in range(2):
                given = torch.randn((3, 2, 6 * frames, 2, 12), generator=generator)
                ours, plain = (
                    held.layer(layer, step).attend(*given) for held, step in zip((ring, rolled), steps, strict=True)
                )
                worst = max(worst, float((ours - plain).abs().max()))
        assert sorted(ring.positions()) == sorted(rolled.positions())
    return worst


@pytest.mark.parametrize(("slots", "sink", "frames"), [(12, 3, 3), (10, 3, 3), (6, 0, 2), (5, 1, 1), (4, 2, 2)])
def test_it_sees_what_the_ring_sees(slots, sink, frames):
    assert difference(slots, sink, frames) < 1e-5


def keeps_no_sink(self, old, new, step):
    held = torch.cat([old[:, new.shape[1] if step.shift else 0 :], torch.zeros_like(new)], dim=1)[:, : old.shape[1]]
    end = step.end * self.frame_tokens
    held[:, end - new.shape[1] : end] = new
    return held


real = RolledCache.rolled


def never_shifts(self, old, new, step):
    return real(self, old, new, step._replace(shift=0))


@pytest.mark.parametrize("mutant", [keeps_no_sink, never_shifts])
def test_a_cache_that_keeps_other_frames_is_seen(monkeypatch, mutant):
    monkeypatch.setattr(RolledCache, "rolled", mutant)
    assert difference(12, 3, 3) > 1e-2


def test_streams_are_the_same_and_their_ratio_is_told(models, undecoded):
    (found,) = cache(models, 2, Budget(60))
    assert found["largest_difference"] < 1e-5
    assert found["rows"]["ring, in place"]["ratio"] == [1, 1, 1]
    assert found["rows"]["cloned and rolled"]["chunks"] == 2


def test_other_numbers_are_no_comparison(models, monkeypatch, undecoded):
    monkeypatch.setattr(RolledCache, "rolled", lambda self, old, new, step: torch.zeros_like(old))
    monkeypatch.setattr(Running, "full", property(lambda self: self.made > 0))
    with pytest.raises(NotTheSameError, match=r"the rolled cache makes latents that differ by \S+ of the largest"):
        cache(models, 2, Budget(60))
