from __future__ import annotations

import pytest
import torch

from vace_adapt.attention.plain import attend
from vace_adapt.attention.rope import RotaryGrid, rotate
from vace_adapt.cache.recent import RecentLatents
from vace_adapt.cache.ring import RingCache, RingSpec, SlotLayer
from vace_adapt.errors import InputError, SessionError

CPU = torch.device("cpu")
TOKENS = 2


def ring(slots: int, sink: int, references: int = 0, bank: int = 0, **options: bool) -> RingCache:
    return RingCache(
        RingSpec(slots, sink, **options),
        RotaryGrid(12, (1, TOKENS), CPU),
        layers=1,
        batch=1,
        heads=1,
        head_dim=12,
        dtype=torch.float32,
        device=CPU,
        references=references,
        bank=bank,
    )


def write(cache: RingCache, start: int, frames: int, value: float) -> None:
    """One pass whose values are `value` + frame number, keys all one."""
    step = cache.chunk_pass(start, frames)
    numbers = torch.arange(start, start + frames).repeat_interleave(TOKENS).float()
    values = (numbers + value)[None, :, None, None].expand(cache.values.shape[1], -1, 1, 12)
    cache.layer(0, step).attend(torch.ones_like(values), torch.ones_like(values), values)


def held(cache: RingCache) -> list[float]:
    """First value of each frame slot."""
    return cache.values[0, 0, ::TOKENS, 0, 0].tolist()


def test_window_slides_and_the_sink_stays():
    cache = ring(6, 2)
    for chunk in range(5):
        write(cache, 2 * chunk, 2, 100)
    assert sorted(cache.positions()) == [0, 1, 6, 7, 8, 9]
    assert sorted(held(cache)) == [100, 101, 106, 107, 108, 109]


def test_a_repeated_pass_overwrites_the_chunk_in_place():
    cache = ring(6, 2)
    pointer = cache.keys.data_ptr()
    for _ in range(2):
        write(cache, 0, 2, 0)
        write(cache, 2, 2, 10)
        write(cache, 2, 2, 20)
        cache.reset()
    write(cache, 0, 2, 0)
    write(cache, 2, 2, 10)
    write(cache, 2, 2, 20)
    assert held(cache)[:4] == [0, 1, 22, 23]
    assert cache.keys.data_ptr() == pointer


def test_a_chunk_may_wrap_around_the_ring():
    cache = ring(7, 2)
    for chunk in range(5):
        write(cache, 2 * chunk, 2, 0)
    assert sorted(cache.positions()) == [0, 1, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("protect", "kept"), [(True, 10), (False, 20)])
def test_sink_protection(protect, kept):
    """Frame 2 is in the sink but in the second chunk: repeated passes write it again only without protection."""
    cache = ring(9, 3, protect_sink=protect)
    write(cache, 0, 2, 0)
    write(cache, 2, 2, 10)
    write(cache, 2, 2, 20)
    assert held(cache)[2:4] == [kept + 2, 23]


@pytest.mark.parametrize(("pad", "visible"), [(True, 4), (False, 3)])
def test_padding_of_a_sink_that_is_not_full(pad, visible):
    assert ring(9, 4, pad_sink=pad).chunk_pass(0, 3).visible == visible * TOKENS


def test_recache_keeps_or_rewrites_the_sink():
    for keep, expected in ((True, [0, 1, 6, 7, 8, 9]), (False, [4, 5, 6, 7, 8, 9])):
        cache = ring(6, 2)
        for chunk in range(5):
            write(cache, 2 * chunk, 2, 0)
        cache.recache_pass(4, 6, keep_sink=keep)
        assert sorted(cache.positions()) == expected


def test_recache_before_the_window_slid_rewrites_everything():
    cache = ring(6, 2)
    write(cache, 0, 2, 0)
    write(cache, 2, 2, 0)
    step = cache.recache_pass(0, 4, keep_sink=True)
    assert step.rows is None
    assert sorted(step.slots.tolist()) == list(range(4 * TOKENS))


def test_snapshot_restores_every_bit_into_the_same_tensors():
    cache = ring(6, 2)
    for chunk in range(4):
        write(cache, 2 * chunk, 2, 0)
    kept, values, pointer = cache.snapshot(), cache.values.clone(), cache.values.data_ptr()
    for chunk in range(4, 8):
        write(cache, 2 * chunk, 2, 0)
    cache.restore(kept)
    assert torch.equal(cache.values, values)
    assert cache.values.data_ptr() == pointer
    assert sorted(cache.positions()) == [0, 1, 4, 5, 6, 7]
    write(cache, 8, 2, 0)
    assert sorted(cache.positions()) == [0, 1, 6, 7, 8, 9]


def test_slots_are_in_any_order_but_ranks_are_in_order_of_time():
    cache = ring(6, 2, relative=True)
    for chunk in range(5):
        write(cache, 2 * chunk, 2, 0)
    step = cache.chunk_pass(8, 2)
    order = sorted(range(6), key=cache.positions().__getitem__)
    expected = cache.rope.at(range(6)).cos.unflatten(0, (6, TOKENS))
    assert torch.equal(step.keys.cos.unflatten(0, (6, TOKENS))[order], expected)
    assert torch.equal(step.query.cos, cache.rope.at([4, 5]).cos)


def shown(cache: RingCache, start: int, frames: int, references: int, value: float = 1000.0) -> torch.Tensor:
    """What a pass sees whose references have one value; all keys are alike, so attention takes the mean."""
    step = cache.chunk_pass(start, frames, references)
    rows = torch.full((1, references * TOKENS, 1, 12), value)
    own = torch.zeros(1, frames * TOKENS, 1, 12)
    layer = cache.layer(0, step, SlotLayer(torch.zeros_like(rows), rows) if references else None)
    return layer.attend(own, own, own)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("references", [0, 1, 3])
def test_a_pass_sees_its_references_and_no_empty_slot(relative, references):
    cache = ring(6, 2, references=3, relative=relative)
    shown(cache, 0, 2, 3, value=5.0)
    expected = torch.full((1, 2 * TOKENS, 1, 12), 1000.0 * references / (references + 4))
    assert torch.allclose(shown(cache, 2, 2, references), expected)
    assert held(cache) == [0.0] * 6, "references are not written to frame slots"


def test_references_stand_directly_in_front_of_the_chunk():
    absolute, relative = (ring(6, 2, references=3, relative=relative) for relative in (False, True))
    for cache in (absolute, relative):
        for chunk in range(4):
            write(cache, 2 * chunk, 2, 0)
        for references in (1, 2):
            step = cache.chunk_pass(8, 2, references)
            first = 8 if cache is absolute else 4
            expected = cache.rope.at(range(first - references, first))
            assert torch.equal(step.query.cos, cache.rope.at([first, first + 1]).cos)
            if cache is absolute:
                assert torch.equal(step.reserved.sin, expected.sin)
            else:
                assert torch.equal(step.keys.sin[: references * TOKENS], expected.sin)
                assert torch.equal(step.keys.sin[references * TOKENS :], cache.chunk_pass(8, 2).keys.sin)
    assert torch.equal(absolute.chunk_pass(8, 2, 1).slots, absolute.chunk_pass(8, 2).slots + TOKENS)


def test_keys_of_references_are_rotated_as_they_are_put_in():
    cache, unrotated = ring(6, 0, references=1), torch.ones(1, TOKENS, 1, 12)
    step = cache.chunk_pass(0, 2, 1)
    cache.layer(0, step, SlotLayer(unrotated, unrotated))
    assert torch.equal(cache.reserved_keys[0], rotate(unrotated, cache.rope.at([-1])))
    assert torch.equal(cache.reserved_values[0], unrotated)


def test_passes_of_a_chunk_share_one_plan():
    cache = ring(6, 2, references=2)
    steps = [cache.chunk_pass(0, 2, references) for references in (1, 0, 1, 2, 1)]
    assert steps[0] is steps[2] is steps[4]
    assert steps[1] is cache.chunk_pass(0, 2)


def test_refusals():
    with pytest.raises(InputError, match="3 references do not fit the cache's 2 reserved slots"):
        ring(6, 0, references=2).chunk_pass(0, 2, 3)
    with pytest.raises(InputError, match="a cache of 3 latent frames cannot keep a sink of 3"):
        ring(3, 3)
    with pytest.raises(SessionError, match="the cache holds 4 latent frames and does not evict: frame 5 does not fit"):
        ring(4, 0, evicts=False).chunk_pass(0, 6)
    with pytest.raises(SessionError, match="latent frame 3 cannot follow -1: frames between them are missing"):
        ring(6, 0).chunk_pass(3, 3)
    cache = ring(5, 3)
    write(cache, 0, 3, 0)
    write(cache, 3, 2, 0)
    before, positions = held(cache), cache.positions()
    with pytest.raises(InputError, match="a chunk of 3 latent frames does not fit a window of 5 with a sink of 3"):
        cache.chunk_pass(5, 3)
    assert (held(cache), cache.positions()) == (before, positions), "a refused pass changes nothing"


def test_recent_latents_come_back_in_order_of_time():
    recent = RecentLatents(4, (1, 1, 3, 1, 1), torch.float32, CPU)
    for start in (0, 3, 6):
        recent.push(torch.arange(start, start + 3).float().view(1, 1, 3, 1, 1))
        first, latents = recent.newest()
        assert latents.flatten().tolist() == list(range(first, start + 3))
    assert first == 5


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_of_a_chunk_longer_than_the_ring_the_last_latents_stay(slots):
    recent = RecentLatents(slots, (1, 1, 3, 1, 1), torch.float32, CPU)
    assert recent.newest()[1].shape[2] == 0
    for start, frames in ((0, 3), (3, 1), (4, 3)):
        recent.push(torch.arange(start, start + frames).float().view(1, 1, frames, 1, 1))
        end = start + frames
        first, latents = recent.newest()
        assert (first, latents.flatten().tolist()) == (end - slots, list(range(end - slots, end)))


def test_a_recache_of_one_row_leaves_the_others():
    cache = RingCache(
        RingSpec(6, 2), RotaryGrid(12, (1, TOKENS), CPU), layers=1, batch=2, heads=1, head_dim=12, dtype=torch.float32, device=CPU
    )  # fmt: skip
    for chunk in range(5):
        write(cache, 2 * chunk, 2, 0)
    before, kept = cache.values.clone(), cache.snapshot()
    step = cache.recache_pass(4, 6, keep_sink=False, batch_row=1)
    new = torch.full((1, 6 * TOKENS, 1, 12), 7.0)
    cache.layer(0, step, batch_row=1).attend(new, new, new)
    assert torch.equal(cache.values[:, 0], before[:, 0])
    assert (cache.values[:, 1] == 7).all()
    assert cache.positions(0) == (0, 1, 6, 7, 8, 9)
    assert cache.positions(1) == (4, 5, 6, 7, 8, 9)
    cache.restore(kept)
    assert cache.positions(1) == cache.positions(0)
    cache.chunk_pass(10, 2)
    assert cache.positions(1) == cache.positions(0) == (0, 1, 10, 11, 8, 9)


def test_recent_latents_of_one_row_are_replaced():
    recent = RecentLatents(4, (2, 1, 3, 1, 1), torch.float32, CPU)
    for start in (0, 3):
        recent.push(torch.arange(start, start + 3).float().view(1, 1, 3, 1, 1).expand(2, -1, -1, -1, -1))
    assert recent.replace(1, torch.tensor([7.0, 8.0, 9.0]).view(1, 1, 3, 1, 1)) == 3
    start, latents = recent.newest()
    assert (start, latents[0].flatten().tolist(), latents[1].flatten().tolist()) == (2, [2, 3, 4, 5], [2, 7, 8, 9])


@pytest.mark.parametrize("references", [0, 1, 2])
@pytest.mark.parametrize("bank", [0, 1, 3])
def test_a_pass_sees_references_then_the_bank_then_the_frames(references, bank):
    """Against plain attention over the concatenation; of the bank the last slots are seen."""
    cache = ring(6, 2, references=2, bank=3)
    cache.bank_keys.copy_(torch.randn(cache.bank_keys.shape))
    cache.bank_values.copy_(torch.randn(cache.bank_values.shape))
    write(cache, 0, 2, 1)
    held = cache.keys.clone(), cache.values.clone()
    query, key, value = torch.randn(3, 1, 2 * TOKENS, 1, 12).unbind(0)
    own = torch.randn(2, 1, references * TOKENS, 1, 12).unbind(0)
    step = cache.chunk_pass(2, 2, references, bank=bank)
    assert step.bank == bank * TOKENS
    found = cache.layer(0, step, SlotLayer(*own) if references else None).attend(query, key, value)
    now = cache.rope.at([2, 3])
    first = (3 - bank) * TOKENS
    keys = [cache.bank_keys[0, :, first:], held[0][0, :, : 2 * TOKENS], rotate(key, now)]
    values = [cache.bank_values[0, :, first:], held[1][0, :, : 2 * TOKENS], value]
    if references:
        keys.insert(0, rotate(own[0], cache.rope.at(range(2 - references, 2))))
        values.insert(0, own[1])
    expected = attend(rotate(query, now), torch.cat(keys, dim=1), torch.cat(values, dim=1))
    torch.testing.assert_close(found, expected)
    assert torch.equal(cache.keys[0, :, 2 * TOKENS : 4 * TOKENS], rotate(key, now))
    assert torch.equal(cache.frame(3)[1][0], value[:, TOKENS:])


def test_a_bank_is_part_of_the_memory():
    cache = ring(6, 2, bank=3)
    assert (cache.layout.kind, cache.layout.slots, cache.layout.bank) == ("ring+bank", 9, 3)
    assert cache.bank_keys.shape == (1, 1, 3 * TOKENS, 1, 12)
    kept = cache.snapshot()
    cache.bank_keys.fill_(1)
    assert cache.tensors()["bank_keys"].any()
    cache.restore(kept)
    assert not cache.tensors()["bank_keys"].any()


def test_a_bank_has_no_relative_positions():
    with pytest.raises(InputError, match="a memory bank keeps keys at their positions, a cache of relative positions"):
        ring(6, 2, bank=3, relative=True)
