"""Sink + sliding window of keys and values in fixed buffers, written in place.

A frame slot holds the keys and values of one latent frame. The first `sink` slots keep the stream's first frames, or
what a recache puts there; the others are a ring. Keys carry their rotary position (or are rotated when read), so the
order of slots does not matter and nothing is ever moved. The host knows which frame is where; no device value is read
back.

In front of the frame slots there may be reserved slots. A pass may put keys and values of R references there, at the
temporal positions ``start - R .. start - 1`` where its chunk begins at ``start``, and sees them together with the frame
slots. A pass that puts none there sees none; a reserved slot without a reference is never seen.

Between the two there may be slots of a memory bank, which the plugin fills: the last ones first, so that what a pass
sees of the bank lies directly in front of the frame slots, and its references in front of that.

Without references, what a pass sees equals NVlabs/LongLive v1.0 wan/modules/causal_model.py
(``CausalWanSelfAttention.forward``) and guandeh17/Self-Forcing wan/modules/causal_model.py, which shift the buffer
instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vace_adapt.attention.plain import attend
from vace_adapt.attention.rope import RotaryGrid, Rotation, rotate
from vace_adapt.compiling import mark_growing
from vace_adapt.contract import CacheLayout
from vace_adapt.errors import InputError, SessionError


@dataclass(frozen=True)
class RingSpec:
    """How a ring behaves.

    Attributes:
        slots: latent frames it holds.
        sink: of these, how many keep the stream's first frames.
        evicts: whether old frames make room for new ones; without it a full cache is an error.
        relative: keys are stored without rotation and rotated by their rank in time when read (LongLive's
            ``causal_model_infinity.py``); otherwise they carry their absolute position.
        protect_sink: repeated passes over a chunk do not write the sink again (LongLive; it matters only for a sink
            that is not a whole number of chunks).
        pad_sink: a sink that is not full yet is attended as zeros (LongLive; as above).
    """

    slots: int
    sink: int
    evicts: bool = True
    relative: bool = False
    protect_sink: bool = True
    pad_sink: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.sink < self.slots:
            raise InputError(f"a cache of {self.slots} latent frames cannot keep a sink of {self.sink}")


class RingPass(NamedTuple):
    """What one forward pass writes and reads, the same for every layer."""

    slots: Tensor
    """int64 [K]: rows to write, counted from the first visible one."""
    rows: Tensor | None
    """int64 [K]: the pass's tokens to write there; None means all, in order."""
    visible: int
    """Rows of frame slots that take part in attention, counted from the first."""
    query: Rotation
    keys: Rotation | None
    """Rotation of all visible rows if keys are stored without one."""
    references: int = 0
    """Rows of references that take part, too, in front of everything else."""
    bank: int = 0
    """Rows of the memory bank that take part, too, in front of the frame slots."""
    reserved: Rotation | None = None
    """Rotation with which their keys are stored, if they are."""


class _Plan(NamedTuple):
    """The passes of one chunk by the number of references they see, and the rotation of all reserved slots."""

    key: tuple[int, int, int, int]
    passes: dict[int, RingPass]
    reserved: Rotation | None


class SlotLayer(NamedTuple):
    """Key and value [B, R*T, H, d] of R references in one layer; the key is not rotated."""

    key: Tensor
    value: Tensor


class LayerCache(NamedTuple):
    """One layer's buffers during a pass; plain tensors, so that a block can be compiled around it."""

    keys: Tensor
    values: Tensor
    slots: Tensor
    rows: Tensor | None
    query_rotation: Rotation
    key_rotation: Rotation | None

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Write the pass's key and value [B, L, H, d] in place, then attend to everything visible."""
        query = self.write(query, key, value)
        keys = self.keys if self.key_rotation is None else rotate(self.keys, self.key_rotation)
        return attend(query, keys, self.values)

    def write(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Write the pass's key and value in place; the query, rotated."""
        query = rotate(query, self.query_rotation)
        if self.key_rotation is None:
            key = rotate(key, self.query_rotation)
        if self.rows is not None:
            key, value = key.index_select(1, self.rows), value.index_select(1, self.rows)
        self.keys.index_copy_(1, self.slots, key)
        self.values.index_copy_(1, self.slots, value)
        return query


class RingCache:
    """Self-attention keys and values of all layers of one stream (`CacheOps`).

    Args:
        spec: see `RingSpec`.
        rope: rotations for this stream's latent size.
        layers, batch, heads, head_dim: sizes of the buffers, each [layers, B, slots * tokens, H, d].
        dtype, device: of the buffers.
        compiled: whether the blocks that read it are compiled.
        references: reserved slots, each for one reference.
        bank: slots of a memory bank. Their keys carry their positions.

    Attributes:
        keys, values: of the frame slots.
        bank_keys, bank_values: of the bank, directly in front of them in memory.
        reserved_keys, reserved_values: of the reserved slots, in front of both.
    """

    def __init__(
        self,
        spec: RingSpec,
        rope: RotaryGrid,
        *,
        layers: int,
        batch: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
        compiled: bool = False,
        references: int = 0,
        bank: int = 0,
    ) -> None:
        if bank and spec.relative:
            raise InputError("a memory bank keeps keys at their positions, a cache of relative positions has none")
        self.spec = spec
        self.compiled = compiled
        self.rope = rope
        kind = "ring+bank" if bank else "ring"
        self.layout = CacheLayout(kind, spec.slots + bank, spec.sink, bank=bank, references=references)
        self.frame_tokens = rope.grid[0] * rope.grid[1]
        self._reserved = references * self.frame_tokens
        self._front = self._reserved + bank * self.frame_tokens
        shape = (layers, batch, self._front + spec.slots * self.frame_tokens, heads, head_dim)
        self._keys = torch.zeros(shape, dtype=dtype, device=device)
        self._values = torch.zeros(shape, dtype=dtype, device=device)
        parts = [self._reserved, self._front]
        self.reserved_keys, self.bank_keys, self.keys = self._keys.tensor_split(parts, dim=2)
        self.reserved_values, self.bank_values, self.values = self._values.tensor_split(parts, dim=2)
        self._frames = [[-1] * spec.slots for _ in range(batch)]
        self._end = 0
        self._plan: _Plan | None = None

    # --- passes -------------------------------------------------------------------------------------------------------

    def chunk_pass(self, start: int, frames: int, references: int = 0, bank: int = 0) -> RingPass:
        """A pass over the chunk of latent frames ``start .. start+frames-1``; the first one makes room for it.

        Passes that write the same places share one plan, so that nothing is copied to the device between steps.

        Args:
            start, frames: of the chunk.
            references: how many references the pass sees; `layer` then takes them.
            bank: how many slots of the bank it sees, counted from the last.
        """
        if references > self.layout.references:
            raise InputError(f"{references} references do not fit the cache's {self.layout.references} reserved slots")
        places = self._places(start, frames)
        for held in self._frames:
            for row, slot in places:
                held[slot] = start + row
        self._end = max(self._end, start + frames)
        key = (start, frames, len(places), bank)
        if self._plan is None or self._plan.key != key:
            first = self._first(start, frames)
            reserved = self.rope.at(range(first - self.layout.references, first)) if self._reserved else None
            self._plan = _Plan(key, {0: self._with_bank(self._pass_of(start, frames, places), bank)}, reserved)
        passes = self._plan.passes
        if references not in passes:
            passes[references] = self._seeing(references, self._plan)
        return passes[references]

    def recache_pass(
        self, start: int, frames: int, *, keep_sink: bool, batch_row: int | None = None, bank: int = 0
    ) -> RingPass:
        """A pass that rewrites the newest frames ``start .. start+frames-1`` in place.

        A sink whose frames have left the window is kept if `keep_sink`, else it is overwritten with the oldest of
        them (NVlabs/LongLive v1.0 pipeline/interactive_causal_inference.py, ``_recache_after_switch``).

        With `batch_row` the pass is over that row alone; read its buffers with the same `batch_row`.
        """
        self._plan = None
        rewritten = self._frames if batch_row is None else [self._frames[batch_row]]
        slid = start > 0
        places: list[tuple[int, int]] = []  # row, slot
        for row in range(frames):
            in_sink = row < self.spec.sink
            if slid and in_sink and keep_sink:
                continue
            slot = row if in_sink else self._slot(start + row)
            places.append((row, slot))
            for held in rewritten:
                held[slot] = start + row
        return self._with_bank(self._pass_of(start, frames, places), bank)

    def layer(
        self, index: int, step: RingPass, references: SlotLayer | None = None, batch_row: int | None = None
    ) -> LayerCache:
        """The buffers of layer `index` for a pass over all rows of the batch, or over one, with the references that the
        pass sees put into their places.
        """
        batch = slice(None) if batch_row is None else slice(batch_row, batch_row + 1)
        rows = slice(self._front - step.bank - step.references, self._front + step.visible)
        keys, values = self._keys[index, batch, rows], self._values[index, batch, rows]
        assert (references is None) == (step.references == 0)
        if references is not None:
            key = references.key if step.reserved is None else rotate(references.key, step.reserved)
            keys[:, : step.references].copy_(key)
            values[:, : step.references].copy_(references.value)
        if self.compiled:
            mark_growing(keys, 1)
            mark_growing(values, 1)
            for table in step.keys or ():
                mark_growing(table, 0)
        return LayerCache(keys, values, step.slots, step.rows, step.query, step.keys)

    def frame(self, number: int) -> tuple[Tensor, Tensor]:
        """Keys and values [layers, B, T, H, d] of a latent frame that is held: views."""
        first = self._slot(number) * self.frame_tokens
        rows = slice(first, first + self.frame_tokens)
        return self.keys[:, :, rows], self.values[:, :, rows]

    def _places(self, start: int, frames: int) -> list[tuple[int, int]]:
        """Which row of a chunk goes to which frame slot.

        Raises:
            SessionError, InputError: the chunk cannot be placed; nothing has changed.
        """
        spec = self.spec
        if not spec.evicts and start + frames > spec.slots:
            raise SessionError(
                f"the cache holds {spec.slots} latent frames and does not evict: "
                f"frame {start + frames - 1} does not fit"
            )
        if start > self._end:
            raise SessionError(f"latent frame {start} cannot follow {self._end - 1}: frames between them are missing")
        slots = [self._slot(start + row) for row in range(frames)]
        if len(set(slots)) < frames:
            raise InputError(
                f"a chunk of {frames} latent frames does not fit a window of {spec.slots} with a sink of {spec.sink}"
            )
        again = start > 0 and start + frames <= self._end
        first = spec.sink if again and spec.protect_sink else 0
        return [(row, slot) for row, slot in enumerate(slots) if slot >= first]

    def _pass_of(self, start: int, frames: int, places: Sequence[tuple[int, int]]) -> RingPass:
        spec = self.spec
        filled = min(self._end, spec.slots)
        visible = max(filled, spec.sink) if spec.pad_sink and not spec.relative else filled
        everything = len(places) == frames
        keys = None
        if spec.relative:
            held = self._frames[0][:filled]  # of any row: a sink is always older than the ring
            ranks = {frame: rank for rank, frame in enumerate(sorted(held))}
            keys = self.rope.at([ranks[frame] for frame in held])
        first = self._first(start, frames)
        return RingPass(
            slots=self._tokens([slot for _, slot in places]),
            rows=None if everything else self._tokens([row for row, _ in places]),
            visible=visible * self.frame_tokens,
            query=self.rope.at(range(first, first + frames)),
            keys=keys,
        )

    def _with_bank(self, step: RingPass, bank: int) -> RingPass:
        rows = bank * self.frame_tokens
        return step._replace(slots=step.slots + rows, bank=rows) if bank else step

    def _seeing(self, references: int, plan: _Plan) -> RingPass:
        """The planned pass with references in front: made on the device alone, so that a chunk's steps may differ."""
        assert plan.reserved is not None
        bare, rows = plan.passes[0], references * self.frame_tokens
        reserved = plan.reserved.rows(self._reserved - rows, self._reserved)
        step = bare._replace(slots=bare.slots + rows, references=rows)
        if bare.keys is None:
            return step._replace(reserved=reserved)
        return step._replace(keys=Rotation(*map(torch.cat, zip(reserved, bare.keys, strict=True))))

    def _first(self, start: int, frames: int) -> int:
        """Temporal position of a chunk's first frame."""
        return min(self._end, self.spec.slots) - frames if self.spec.relative else start

    def _slot(self, frame: int) -> int:
        spec = self.spec
        return frame if frame < spec.slots else spec.sink + (frame - spec.sink) % (spec.slots - spec.sink)

    def _tokens(self, frames: Sequence[int]) -> Tensor:
        """Rows of the tokens of frame-sized places, on the buffers' device."""
        first = torch.tensor(frames, dtype=torch.int64)[:, None] * self.frame_tokens
        return (first + torch.arange(self.frame_tokens)).flatten().to(self.keys.device)

    # --- CacheOps -----------------------------------------------------------------------------------------------------

    def tensors(self) -> Mapping[str, Tensor]:
        held = {"keys": self.keys, "values": self.values}
        if self.layout.bank:
            held.update(bank_keys=self.bank_keys, bank_values=self.bank_values)
        if self._reserved:
            held.update(reserved_keys=self.reserved_keys, reserved_values=self.reserved_values)
        return held

    def positions(self, row: int = 0) -> Sequence[int]:
        return tuple(self._frames[row])

    def snapshot(self) -> tuple[Tensor, Tensor, list[list[int]], int]:
        return self._keys.clone(), self._values.clone(), [list(held) for held in self._frames], self._end

    def restore(self, snapshot: tuple[Tensor, Tensor, list[list[int]], int]) -> None:
        keys, values, frames, self._end = snapshot
        self._keys.copy_(keys)
        self._values.copy_(values)
        self._frames = [list(held) for held in frames]
        self._plan = None

    def reset(self) -> None:
        self._keys.zero_()
        self._values.zero_()
        self._frames = [[-1] * self.spec.slots for _ in self._frames]
        self._end = 0
        self._plan = None
