"""The ring by itself: what it holds, what it gives up, and how its keys move."""

from __future__ import annotations

import pytest
import torch

from vace_adapt.attention.plain import attend
from vace_adapt.attention.rope import RotaryGrid, rotate
from vace_adapt.contract import CacheOps
from vace_adapt_streamdiffusion.cache import StreamDiffusionCache
from vace_adapt_streamdiffusion.plan import Use
from vace_adapt_streamdiffusion.positions import Positions
from vace_adapt_streamdiffusion.ring import AdaptiveRing
from vace_adapt_streamdiffusion.ring_layer import RingSpec

GRID, HEADS, WIDTH = (2, 3), 2, 12
TOKENS = 6
CPU = torch.device("cpu")


def ring(batch=1, blocks=1, layers=2, **changed):
    numbers = {"slots": 6, "sink": 3, "threshold": -1.0, "ends": (4, 5, 6), "official": False, "steps": 1, **changed}
    return AdaptiveRing(
        RingSpec(**numbers),
        RotaryGrid(WIDTH, GRID, CPU),
        layers=layers,
        batch=batch,
        blocks=blocks,
        heads=HEADS,
        head_dim=WIDTH,
        dtype=torch.float32,
        device=CPU,
    )


def projected(frame, rows=1, frames=1, seed=0):
    generator = torch.Generator().manual_seed(1000 * seed + frame)
    return torch.randn(3, rows, frames * TOKENS, HEADS, WIDTH, generator=generator).unbind()


def run(held, start, frames=1, position=None, moved=0, first=True, block=0, seed=0, given=None):
    """A pass of one chunk through all layers; the last layer's output."""
    step = held.chunk_pass(block, [Use(start, frames, start if position is None else position, moved, first)])
    for layer in range(len(held.keys)):
        out = held.layer(layer, step).attend(*(given or projected(start, frames=frames, seed=seed)))
    return out


def test_it_holds_the_sink_and_the_newest():
    held = ring()
    run(held, 0, frames=2)
    for start in range(2, 11):
        run(held, start)
    assert held.held[0, 0].tolist() == [0, 1, 2, 9, 10, 8]


def test_a_pass_sees_exactly_what_is_held():
    held, positions = ring(), {}
    run(held, 0, frames=2)
    _, key, value = projected(0, frames=2)
    for frame in range(2):
        positions[frame] = tuple(tensor[:, frame * TOKENS : (frame + 1) * TOKENS] for tensor in (key, value))
    for start in range(2, 10):
        found = run(held, start)
        query, *positions[start] = projected(start)
        seen = [frame for frame in held.held[0, 0].tolist() if frame >= 0]
        keys = [rotate(positions[frame][0], held.rope.at([frame])) for frame in seen]
        expected = attend(
            rotate(query, held.rope.at([start])), torch.cat(keys, 1), torch.cat([positions[f][1] for f in seen], 1)
        )
        assert torch.allclose(found, expected, atol=1e-6)


def test_an_unlike_sink_frame_is_replaced_in_its_own_layer_and_row():
    held = ring(batch=2, threshold=0.25)
    key = torch.ones(2, TOKENS, HEADS, WIDTH)
    across = key * torch.tensor([1.0, -1.0]).repeat(WIDTH // 2)

    def values(start, layer):
        """Frame 0 is as all others are but for frames 1 and 2, and frame 6 of one row in one layer."""
        if start == 6 and layer == 1:
            return torch.stack([key[0], -key[1]])
        return {0: torch.cat([key, across], dim=1), 2: across}.get(start, key)

    for start in (0, 2, 3, 4, 5, 6):
        frames = 2 if start == 0 else 1
        step = held.chunk_pass(0, [Use(start, frames, 0, 0, True)])
        for layer in range(2):
            own = key.repeat(1, frames, 1, 1)
            held.layer(layer, step).attend(own, own, values(start, layer))
    assert held.held[:, :, :4].tolist() == [[[0, 1, 2, 6]] * 2, [[0, 1, 2, 6], [6, 1, 2, 3]]]


def test_every_step_of_a_chunk_writes_one_slot_and_officially_two():
    for official, expected in ((False, [0, 1, 2, 9, 7, 8]), (True, [0, 1, 2, 9, 9, 8])):
        held = ring(official=official, steps=2)
        for start, frames in ((0, 2), *((start, 1) for start in range(2, 10))):
            for step in range(2):
                run(held, start, frames=frames, first=step == 0, seed=step)
        assert held.held[0, 0].tolist() == expected
    held = ring(official=False)
    run(held, 0, frames=2)
    for start in range(2, 9):
        for step in range(3):
            run(held, start, first=step == 0, seed=step)
    _, key, _ = projected(8, seed=2)
    slot = held.held[0, 0].tolist().index(8)
    newest = held.keys[0, :, slot * TOKENS : (slot + 1) * TOKENS]
    assert torch.equal(newest, rotate(key, held.rope.at([8])))


def test_keys_move_with_their_positions():
    """Against keys that were never rotated: the newest frames stay as near as they were, the sink comes nearer."""
    held, raw = ring(), {}
    for start, frames in ((0, 2), *((start, 1) for start in range(2, 20))):
        run(held, start, frames=frames)
        _, key, _ = projected(start, frames=frames)
        for frame in range(frames):
            raw[start + frame] = key[:, frame * TOKENS : (frame + 1) * TOKENS]
    run(held, 20, position=6, moved=14)
    assert held.held[0, 0].tolist() == [0, 1, 2, 18, 19, 20]
    assert held.places[0, 0].tolist() == [0, 1, 2, 4, 5, 6]
    _, raw[20], _ = projected(20)
    for slot, (frame, place) in enumerate(zip(held.held[0, 0].tolist(), held.places[0, 0].tolist(), strict=True)):
        own = held.keys[0, :, slot * TOKENS : (slot + 1) * TOKENS]
        assert torch.allclose(own, rotate(raw[frame], held.rope.at([place])), atol=1e-5)


def test_a_move_changes_no_distance_where_all_frames_are_near():
    one, other = ring(sink=0, ends=(1, 2, 3, 4, 5, 6)), ring(sink=0, ends=(1, 2, 3, 4, 5, 6))
    for held in (one, other):
        run(held, 0, frames=2)
        for start in range(2, 12):
            run(held, start)
    assert torch.allclose(run(one, 12), run(other, 12, position=6, moved=6), atol=1e-5)
    assert not torch.allclose(run(one, 13), run(other, 13, position=6), atol=1e-3), "keys left where they were"


def test_frames_held_twice_keep_one_place():
    held = ring(official=True, steps=2)
    for start, frames in ((0, 2), *((start, 1) for start in range(2, 20))):
        for step in range(2):
            run(held, start, frames=frames, first=step == 0)
    before = held.held[0, 0].tolist()
    assert sorted(before[3:]) == [18, 19, 19]
    run(held, 20, position=6, moved=14)
    places = dict(zip(held.held[0, 0].tolist(), held.places[0, 0].tolist(), strict=True))
    assert {frame: place for frame, place in places.items() if frame > 2} == {18: 4, 19: 5, 20: 6}


@pytest.mark.parametrize(
    ("moves", "base", "expected"), [(False, 5, [2, 3, 9, 5, 6, 7, 8, 9, 5]), (True, 6, [2, 3, 9, 6, 7, 8, 9, 6, 7])]
)
def test_positions_begin_again(moves, base, expected):
    positions = Positions(2, 1, 10, base, moves)
    starts = [2, 3, 9, 10, 11, 12, 13, 14, 15]
    assert [positions(start)[0] for start in starts] == expected
    falls = {start: positions(start)[1] for start in starts if positions(start)[1]}
    assert falls == ({10: 4, 14: 4} if moves else {})
    assert Positions(2, 1, None, base, moves)(4000) == (4000, 0)


def test_long_chunks_begin_again_at_a_whole_one():
    positions = Positions(4, 3, 12, 10, True)
    assert [positions(start) for start in (10, 13, 16, 19)] == [(10, 0), (10, 3), (10, 3), (10, 3)]


def test_rows_that_are_filled_less_see_less():
    held = ring(blocks=2)
    run(held, 0, frames=2)
    held.spread()
    alone = ring(blocks=2)
    alone.restore(held.snapshot())
    run(alone, 2, block=0)
    run(held, 2, block=0)
    a, b = projected(3), projected(2, seed=5)
    step = held.chunk_pass(0, [Use(3, 1, 3, 0, True), Use(2, 1, 2, 0, True)])
    given = [torch.cat(rows) for rows in zip(a, b, strict=True)]
    for layer in range(2):
        both = held.layer(layer, step).attend(*given)
    assert torch.allclose(both[:1], run(alone, 3, block=0, given=a), atol=1e-6)
    assert torch.allclose(both[1:], run(alone, 2, block=1, given=b), atol=1e-6)


def test_snapshots_come_back_bit_for_bit():
    from vace_adapt.cache.text import TextMemory

    held = ring(official=True, steps=2, threshold=0.9)
    cache = StreamDiffusionCache(held, TextMemory([]))
    assert isinstance(cache, CacheOps)
    for start, frames in ((0, 2), *((start, 1) for start in range(2, 9))):
        run(held, start, frames=frames)
    kept = cache.snapshot()
    pointers = {name: tensor.data_ptr() for name, tensor in cache.tensors().items()}
    first = [run(held, start) for start in range(9, 14)]
    assert cache.positions() != tuple(kept[0][0]["held"][0, 0].tolist())
    cache.restore(kept)
    assert all(torch.equal(a, b) for a, b in zip(first, [run(held, start) for start in range(9, 14)], strict=True))
    cache.reset()
    fresh = ring(official=True, steps=2, threshold=0.9)
    assert all(torch.equal(a, b) for a, b in zip(held.tensors().values(), fresh.tensors().values(), strict=True))
    assert torch.equal(run(held, 0, frames=2), run(fresh, 0, frames=2))
    assert {name: tensor.data_ptr() for name, tensor in cache.tensors().items()} == pointers
