"""What must be true of a re-anchored stream, as functions that raise AssertionError: used by the tests, and by the
mutants that show that each of them can fail. By hand: no ring, no plugin's loop, no measure of drift of ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import oracles
import torch
from support import HEIGHT, WIDTH, distance, opened, picture, same
from torch import Tensor

from vace_adapt.attention.plain import attend
from vace_adapt.attention.rope import RotaryGrid, rotate
from vace_adapt.cache.text import TextMemory
from vace_adapt.conditioning.vae import EncoderStream
from vace_adapt_longlive.loop import LongLiveLoop
from vace_adapt_longlive.native import NativeDenoiser

SLOTS, SINK = 12, 3

ABOVE = 0.5
"""A bound that two rows of the tiny model pass at different chunks."""


class Rebuilt(NamedTuple):
    """A row's memory right after it was rebuilt: from what, and what it holds."""

    chunk: int
    row: int
    start: int
    latents: Tensor
    keys: Tensor
    values: Tensor
    positions: tuple[int, ...]
    recent: Tensor


class Seen(NamedTuple):
    """A stream: its chunks, and every rebuilding of its memory."""

    chunks: list[Any]
    rebuilt: list[Rebuilt]
    pictures: dict[int, Any]

    @property
    def latents(self) -> Tensor:
        """All of them, [B, C, n, h, w]."""
        return torch.cat([chunk.latents for chunk in self.chunks], dim=2)


def seen(pipe: Any, chunks: int, reanchor: dict[str, Any], keyframes: tuple[int, ...] = (), **options: Any) -> Seen:
    """Run a stream that switches its prompt before chunk 6; keyframes land on the last frame of some chunks."""
    rebuilt: list[Rebuilt] = []
    real = LongLiveLoop.reanchor

    def watched(self: Any, chunk: Any) -> None:
        real(self, chunk)
        memory = self.denoiser.cache
        for row, latents in chunk.reanchor.items():
            ring, (_, recent) = memory.ring, memory.recent.newest()
            held = ring.keys[:, row].clone(), ring.values[:, row].clone(), ring.positions(row), recent[row : row + 1]
            rebuilt.append(Rebuilt(chunk.index, row, chunk.start, latents, *held))

    made, pictures = [], {}
    with (
        mock.patch.object(LongLiveLoop, "reanchor", watched),
        opened(pipe, controls={"reanchor": reanchor}, **options) as s,
    ):
        for index in range(chunks):
            if index in keyframes:
                pictures[index] = np.stack([picture(10 * row + index, HEIGHT, WIDTH)[None] for row in range(s.batch)])
                s.keyframe(pictures[index], chunks=1)
            if index == 6:
                s.update(prompt="a blue cube")
            made.append(next(s))
    return Seen(made, rebuilt, pictures)


# --- the memory -------------------------------------------------------------------------------------------------------


class Fresh:
    """One layer's keys and values of some frames, written once, in the order of slots."""

    def __init__(self, order: list[int], start: int, relative: bool, rope: Any) -> None:
        self.order = order
        self.relative = relative
        ranks = list(range(len(order)))
        self.query = rope.at(ranks if relative else [start + rank for rank in ranks])
        self.read = rope.at(order)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if not self.relative:
            key = rotate(key, self.query)
        self.keys, self.values = (self._by_slot(tensor) for tensor in (key, value))
        keys = rotate(self.keys, self.read) if self.relative else self.keys
        return attend(rotate(query, self.query), keys, self.values)

    def _by_slot(self, tensor: Tensor) -> Tensor:
        return tensor.unflatten(1, (len(self.order), -1))[:, self.order].flatten(1, 2).contiguous()


def the_memory_is_a_fresh_one(pipe: Any, reanchor: dict[str, Any], chunks: int = 9, **options: Any) -> None:
    """After each rebuilding, keys, values and positions are, bit for bit, those of a memory into which exactly the given
    latents were written in one clean pass, at the positions of the newest frames."""
    model = pipe.parts.model
    rope = RotaryGrid(pipe.parts.backbone.head_dim, (HEIGHT // 16, WIDTH // 16), pipe.device)
    stream = seen(pipe, chunks, reanchor, **options)
    assert stream.rebuilt
    for found in stream.rebuilt:
        count = found.latents.shape[2]
        assert count == min(SLOTS, found.start)
        start = found.start - count
        held = [slot_of(frame, start) for frame in range(start, found.start)]
        order = sorted(range(count), key=held.__getitem__)  # of each slot, the frame in it, counted from the first
        assert sorted(held) == list(range(count))
        assert list(found.positions) == [start + rank for rank in order] + [-1] * (SLOTS - count)
        layers = [Fresh(order, start, pipe.parts.settings.rope == "relative", rope) for _ in model.blocks]
        text = TextMemory(model.blocks)
        words = "a blue cube" if found.chunk >= 6 else "a red ball"
        text.write(model.embed_text(pipe.parts.text_encoder([words])))
        model(found.latents, torch.zeros(1), text, layers.__getitem__)
        for layer, keys, values in zip(layers, found.keys, found.values, strict=True):
            tokens = layer.keys.shape[1]
            assert torch.equal(keys[:tokens], layer.keys[0]), f"keys before chunk {found.chunk}"
            assert torch.equal(values[:tokens], layer.values[0]), f"values before chunk {found.chunk}"
            assert not keys[tokens:].any(), "nothing is written behind them"
        assert torch.equal(found.recent, found.latents), "a later recache starts from them as well"


def slot_of(frame: int, start: int) -> int:
    """Where a frame lies: the first three in the sink, the others around the ring of nine behind it."""
    if frame < start + SINK:
        return frame - start
    return frame if frame < SLOTS else SINK + (frame - SINK) % (SLOTS - SINK)


# --- the sources ------------------------------------------------------------------------------------------------------


def newest_frames(stream: Seen, found: Rebuilt) -> np.ndarray[Any, Any]:
    made = stream.latents[found.row : found.row + 1].numpy()
    return made[:, :, max(0, found.start - SLOTS) : found.start].copy()


def the_sink_is_the_newest(pipe: Any, **options: Any) -> None:
    """Source ``sink``: the newest frames as they were made, bit for bit."""
    stream = seen(pipe, 9, {"every": 2, "source": "sink"}, **options)
    assert [found.chunk for found in stream.rebuilt if found.row == 0] == [2, 4, 6, 8]
    for found in stream.rebuilt:
        assert np.array_equal(found.latents.numpy(), newest_frames(stream, found))


def the_sink_is_the_newest_keyframe(pipe: Any) -> None:
    """Source ``keyframe``: the picture, encoded as a video that stands still, before the newest frames."""
    stream = seen(pipe, 9, {"every": 2, "source": "keyframe"}, keyframes=(1, 4, 5), seed=[0, 1])
    assert [(found.chunk, found.row) for found in stream.rebuilt] == [(c, row) for c in (2, 4, 6, 8) for row in (0, 1)]
    newest = {2: 1, 4: 4, 6: 5, 8: 5}
    for found in stream.rebuilt:
        expected = newest_frames(stream, found)
        still = np.concatenate([stream.pictures[newest[found.chunk]][found.row]] * (1 + 4 * (SINK - 1)))
        pixels = torch.from_numpy(still).permute(3, 0, 1, 2)[None].float() / 255 * 2 - 1
        zeros = pipe.codec.zero_video((1, HEIGHT, WIDTH))
        encoded = pipe.codec.normalise(EncoderStream(pipe.codec, zeros).encode(pixels))
        assert torch.equal(found.latents[:, :, :SINK], encoded)
        assert np.array_equal(found.latents[:, :, SINK:].numpy(), expected[:, :, SINK:])


def the_stream_is_pulled_back(pipe: Any, **options: Any) -> None:
    """Source ``first``: the first frames, and the others with the first chunk's mean and deviation, channel by channel,
    as numpy reckons them in float64."""
    stream = seen(pipe, 9, {"every": 2, "source": "first"}, **options)
    for found in stream.rebuilt:
        first = stream.latents[found.row : found.row + 1, :, :3].numpy()
        expected = newest_frames(stream, found)
        rest = expected[:, :, SINK:].astype(np.float64)
        axes: dict[str, Any] = {"axis": (2, 3, 4), "keepdims": True}
        began = first.astype(np.float64)
        rest = (rest - rest.mean(**axes)) / rest.std(**axes) * began.std(**axes) + began.mean(**axes)
        assert np.array_equal(found.latents[:, :, :SINK].numpy(), first)
        np.testing.assert_allclose(found.latents[:, :, SINK:].numpy(), rest, atol=1e-5)
        assert np.abs(rest - expected[:, :, SINK:]).max() > 0.01, "it is not what was made"


# --- when -------------------------------------------------------------------------------------------------------------


def due_chunks(stream: Seen, every: int | None, above: float | None) -> dict[int, list[int]]:
    """Row to the chunks before which it is to be rebuilt, from the reports."""
    reports = [chunk.report for chunk in stream.chunks]
    rows = range(len(reports[0].drift))
    return {
        row: [
            index
            for index in range(1, len(reports))
            if (every and index % every == 0) or (above and reports[index - 1].drift[row] > above)
        ]
        for row in rows
    }


def it_comes_when_it_is_due(pipe: Any) -> None:
    """By the period, by the bound, by either; and each row for itself."""
    for every, bound in ((3, None), (None, ABOVE), (4, ABOVE)):
        rule = {"every": every, "above": bound, "source": "first"}
        stream = seen(pipe, 9, rule, seed=[0, 1])
        due = due_chunks(stream, every, bound)
        assert {row: [found.chunk for found in stream.rebuilt if found.row == row] for row in due} == due
        assert [chunk.report.reanchored for chunk in stream.chunks] == [
            any(index in chunks for chunks in due.values()) for index in range(9)
        ]
        assert bound is None or due[0] != due[1], "a bound that tells the rows apart"


def off_is_as_before(pipe: Any) -> None:
    """Never due is the same as off, bit for bit."""
    plain = []
    with opened(pipe) as session:
        for index in range(8):
            if index == 6:
                session.update(prompt="a blue cube")
            plain.append(next(session).latents.clone())
    never = [chunk.latents for chunk in seen(pipe, 8, {"above": 1e6, "source": "sink"}).chunks]
    late = [chunk.latents for chunk in seen(pipe, 8, {"every": 5, "source": "first"}).chunks]
    assert same(plain, never)
    assert same(plain[:5], late[:5])
    assert distance(plain[5:], late[5:]) > 1e-3


def rows_do_not_meet(pipe: Any) -> None:
    """A batch of two equals two streams, though its rows are rebuilt before different chunks."""
    rule = {"above": ABOVE, "source": "first"}
    both = seen(pipe, 7, rule, seed=[0, 1])
    due = due_chunks(both, None, ABOVE)
    assert due[0] != due[1]
    for row in range(2):
        alone = seen(pipe, 7, rule, seed=row)
        own = [chunk.latents[row : row + 1] for chunk in both.chunks]
        assert distance(own, [chunk.latents for chunk in alone.chunks]) < 1e-4


def a_row_that_is_not_named_keeps_every_bit(pipe: Any) -> None:
    """The loop itself: rebuild row 1 of two, and look at row 0."""
    kept: list[tuple[dict[str, Tensor], Any]] = []
    real = LongLiveLoop.reanchor

    def watched(self: Any, chunk: Any) -> None:
        memory = self.denoiser.cache
        before = {name: tensor.clone() for name, tensor in memory.tensors().items()}, memory.positions(0)
        if chunk.index == 6:
            chunk.reanchor = {1: chunk.reanchor[1]}
        real(self, chunk)
        if chunk.index == 6:
            kept.append(before)
            after = memory.tensors()
            for name, tensor in before[0].items():
                rows = 1 if name in ("keys", "values") else 0
                assert torch.equal(tensor.select(rows, 0), after[name].select(rows, 0)), name
            assert not torch.equal(before[0]["keys"][:, 1], after["keys"][:, 1])
            assert (memory.positions(0), memory.positions(1)[:SINK]) == (before[1], (6, 7, 8))

    rule = {"every": 6, "source": "sink"}
    with (
        mock.patch.object(LongLiveLoop, "reanchor", watched),
        opened(pipe, seed=[0, 1], controls={"reanchor": rule}) as s,
    ):
        for _ in range(7):
            next(s)
    assert kept


def a_later_recache_starts_from_it(pipe: Any) -> None:
    """A prompt switch one chunk later goes back to the frames as they were rebuilt, not as they were made."""
    found: list[Tensor] = []
    real = NativeDenoiser.recache

    def watched(self: Any, *args: Any, **options: Any) -> None:
        found.append(self.cache.recent.newest()[1].clone())
        real(self, *args, **options)

    with mock.patch.object(NativeDenoiser, "recache", watched):
        stream = seen(pipe, 7, {"every": 5, "source": "first"})
    (rebuilt,) = stream.rebuilt
    (recached,) = found
    assert torch.equal(recached[:, :, :9], rebuilt.latents[:, :, 3:])
    assert torch.equal(recached[:, :, 9:], stream.chunks[5].latents)


def nothing_grows(pipe: Any) -> None:
    """Rebuilt on a period and by the bound."""
    oracles.nothing_grows(
        pipe, chunks=24, settled=12, controls={"reanchor": {"every": 3, "above": 0.5, "source": "first"}}
    )
