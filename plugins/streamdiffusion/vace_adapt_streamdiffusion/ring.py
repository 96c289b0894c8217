"""A cache of keys and values that is full soon and then gives up one slot for each chunk, where no slot is moved.

A frame slot holds the keys and values of one latent frame. The first `sink` slots keep the stream's first frames until
one of them no longer resembles what is made: then it is the next to be given up. The others are given up in turn. Which
slot that is depends on the keys and values of the layer, so it is decided on the device, and is another one in every
layer and in every batch row; nothing is read back.

Rows stand in blocks of B, the rows of the stream: one block, or one for each denoise step (stream batch), whose chunk
is another one.

What a pass sees equals chenfengxu714/StreamDiffusionV2 models/wan/causal_model.py (``CausalWanSelfAttention.forward``)
with ``official``; what it does without is said in `vace_adapt_streamdiffusion.settings`. There, the order of slots is a
list on the attention module, which the next stream finds again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import reduce, repeat
from torch import Tensor

from vace_adapt.attention.plain import attend
from vace_adapt.attention.rope import RotaryGrid, Rotation, rotate
from vace_adapt.compiling import mark_growing

PENDING = 64
"""Replacements of sink frames that can wait. Of more, the ones that have waited longest are forgotten: only without
stream batch can there be more, where the official list grows for as long as the stream runs.
"""


class RingSpec(NamedTuple):
    """How a ring behaves.

    Attributes:
        slots, sink: latent frames it holds; of these, how many are compared with new ones.
        threshold: cosine similarity below which a sink frame is replaced; -1 never replaces any.
        ends: the slots that are given up in turn, each by the number of the slot behind it.
        official: see `vace_adapt_streamdiffusion.settings.StreamDiffusionSettings.official_quirks`.
        steps: passes over a chunk in one block of rows; 1 in a stream batch.
    """

    slots: int
    sink: int
    threshold: float
    ends: tuple[int, ...]
    official: bool
    steps: int


class Use(NamedTuple):
    """A chunk in one block of rows.

    Attributes:
        start, frames: absolute latent frame it begins with, and how many it has.
        position: temporal position of its first frame.
        moved: by how much the positions of the frames before it fall before the pass; 0 for nothing.
        first: whether this is the first pass over it in this block.
    """

    start: int
    frames: int
    position: int
    moved: int
    first: bool


class Order(NamedTuple):
    """Which slots a layer gives up next, by row; each slot by the number of the one behind it.

    Attributes:
        pending: int64 [R, P]: sink slots that go first, the newest in front; 0 for none.
        turn: int64 [R]: how often a slot was given up in turn.
        chosen: int64 [R]: the one that the chunk at work was given.
    """

    pending: Tensor
    turn: Tensor
    chosen: Tensor


class RingPass(NamedTuple):
    """What one forward pass writes and reads, the same for every layer.

    Attributes:
        rows: of the batch.
        rotation: of the pass's tokens, [L, 1, d/2] or [R, L, 1, d/2].
        room: int64 [R]: number of the slot behind those that are free for it; 0 where none are.
        takes: bool [R]: whether the slot it is given is taken off the order.
        compares: whether sink frames are compared with it.
        slots: frame slots that are seen or compared, counted from the first.
        mask: bool [R, 1, 1, K]: which of their tokens a row sees; None for all.
        frames, places: int64 [R, F]: absolute latent frames and temporal positions.
    """

    rows: slice
    rotation: Rotation
    room: Tensor
    takes: Tensor
    compares: bool
    slots: int
    mask: Tensor | None
    frames: Tensor
    places: Tensor


class LayerRing(NamedTuple):
    """One layer's buffers during a pass; plain tensors, so that a block can be compiled around it.

    Attributes:
        keys, values: [R, K, H, d]: of the slots that are seen or compared.
        held, places: int64 [R, slots]: latent frame and temporal position of each slot; -1 for none.
        order: see `Order`.
        ends: int64 [E], of `RingSpec`.
        step: the pass.
        spec: of the ring.
    """

    keys: Tensor
    values: Tensor
    held: Tensor
    places: Tensor
    order: Order
    ends: Tensor
    step: RingPass
    spec: RingSpec

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Write the pass's key and value [R, L, H, d] in place, then attend to everything visible."""
        step = self.step
        query, key = rotate(query, step.rotation), rotate(key, step.rotation)
        end = (self._official if self.spec.official else self._chosen)(key, value)
        self._write(end, key, value)
        if step.mask is None:
            return attend(query, self.keys, self.values)
        query, keys, values = query.transpose(1, 2), self.keys.transpose(1, 2), self.values.transpose(1, 2)
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=step.mask).transpose(1, 2)

    def _write(self, end: Tensor, key: Tensor, value: Tensor) -> None:
        """Put them in front of slot number `end` of each row."""
        (batch, tokens), count = key.shape[:2], self.step.frames.shape[1]
        rows = torch.arange(batch, device=end.device)[:, None]
        at = end[:, None] * (tokens // count) - tokens + torch.arange(tokens, device=end.device)
        self.keys.index_put_((rows, at), key)
        self.values.index_put_((rows, at), value)
        slots = end[:, None] - count + torch.arange(count, device=end.device)
        self.held.scatter_(1, slots, self.step.frames)
        self.places.scatter_(1, slots, self.step.places)

    def _official(self, key: Tensor, value: Tensor) -> Tensor:
        """Where the pass writes, by the official list: replacements go in front of it whenever a pass finds one."""
        order, step = self.order, self.step
        if step.compares:
            low, worst = self._unlike(key, value)
            pushed = torch.cat([worst[:, None] + 1, order.pending[:, :-1]], dim=1)
            order.pending.copy_(torch.where(low[:, None], pushed, order.pending))
        waits = order.pending[:, 0] > 0
        given = torch.where(waits, order.pending[:, 0], self._in_turn())
        taken = step.takes & (step.room == 0)
        popped = F.pad(order.pending[:, 1:], (0, 1))
        order.turn.add_((taken & ~waits).long())
        order.pending.copy_(torch.where((taken & waits)[:, None], popped, order.pending))
        return torch.where(step.room > 0, step.room, given)

    def _chosen(self, key: Tensor, value: Tensor) -> Tensor:
        """Where the pass writes: each chunk is given one place, at its first pass."""
        order, step = self.order, self.step
        given, taken = self._in_turn(), step.takes & (step.room == 0)
        if step.compares:
            low, worst = self._unlike(key, value)
            given = torch.where(low, worst + 1, given)
            order.turn.add_((taken & ~low).long())
        else:
            order.turn.add_(taken.long())
        order.chosen.copy_(torch.where(taken, given, order.chosen))
        return torch.where(step.room > 0, step.room, order.chosen)

    def _in_turn(self) -> Tensor:
        return self.ends[self.order.turn % len(self.spec.ends)]

    def _unlike(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Whether a sink frame is too little like the new one, and which is the least: bool and int64 [R]."""
        count, frame_tokens = self.spec.sink, key.shape[1]
        likeness = torch.zeros((), device=key.device)
        for held, new in ((self.keys, key), (self.values, value)):
            sink = reduce(held[:, : count * frame_tokens].float(), "r (f t) h d -> r f (h d)", "mean", f=count)
            own = reduce(new.float(), "r t h d -> r 1 (h d)", "mean")
            likeness = likeness + torch.cosine_similarity(sink, own, dim=-1) / 2
        least = likeness.min(dim=1)
        return least.values < self.spec.threshold, least.indices


class AdaptiveRing:
    """Self-attention keys and values of all layers of one stream, and the order in which slots are given up.

    Args:
        spec: see `RingSpec`.
        rope: rotations for this stream's latent size.
        layers, heads, head_dim: sizes of the buffers, each [layers, R, slots * tokens, H, d].
        batch: rows of the stream, B.
        blocks: of rows; R is their number times B.
        dtype, device: of the buffers.
        compiled: whether the blocks that read it are compiled.
    """

    def __init__(
        self,
        spec: RingSpec,
        rope: RotaryGrid,
        *,
        layers: int,
        batch: int,
        blocks: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
        compiled: bool = False,
    ) -> None:
        self.spec = spec
        self.rope = rope
        self.batch = batch
        self.compiled = compiled
        self.frame_tokens = rope.grid[0] * rope.grid[1]
        rows = blocks * batch
        shape = (layers, rows, spec.slots * self.frame_tokens, heads, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        numbers: Any = {"dtype": torch.int64, "device": device}
        self.held, self.places = (torch.full((layers, rows, spec.slots), -1, **numbers) for _ in range(2))
        self.order = Order(
            torch.zeros((layers, rows, PENDING), **numbers),
            torch.zeros((layers, rows), **numbers),
            torch.zeros((layers, rows), **numbers),
        )
        self._ends = torch.tensor(spec.ends, dtype=torch.int64).to(device)
        self._filled = [0] * blocks
        self._countdown = spec.steps

    # --- passes -------------------------------------------------------------------------------------------------------

    def chunk_pass(self, block: int, uses: Sequence[Use]) -> RingPass:
        """A pass over chunks in neighbouring blocks of rows, the first of them number `block`."""
        spec, device = self.spec, self.keys.device
        rooms = []
        for number, use in enumerate(uses, block):
            if use.moved and use.first:
                self._move(slice(number * self.batch, (number + 1) * self.batch), use.moved)
            end = use.start + use.frames
            full = end > spec.slots or (spec.official and self._filled[number] >= spec.slots)
            self._filled[number] = spec.slots if full else end
            rooms.append(0 if full else end)
        visible = [self._filled[number] for number in range(block, block + len(uses))]
        compares = self._compares(uses, rooms)
        slots = max(*visible, spec.sink if compares else 0)
        rows = slice(block * self.batch, (block + len(uses)) * self.batch)
        return RingPass(
            rows=rows,
            rotation=self._rotation(uses),
            room=self._by_row(rooms),
            takes=torch.full((rows.stop - rows.start,), self._takes(uses, rooms), device=device),
            compares=compares,
            slots=slots,
            mask=None if set(visible) == {slots} else self._mask(visible, slots),
            frames=self._counted([use.start for use in uses], uses[0].frames),
            places=self._counted([use.position for use in uses], uses[0].frames),
        )

    def layer(self, index: int, step: RingPass) -> LayerRing:
        """The buffers of layer `index` for a pass."""
        rows = step.rows
        order = Order(*(tensor[index, rows] for tensor in self.order))
        seen = slice(step.slots * self.frame_tokens)
        keys, values = self.keys[index, rows, seen], self.values[index, rows, seen]
        if self.compiled:
            for tensor in (keys, values):
                mark_growing(tensor, 1)
        held, places = self.held[index, rows], self.places[index, rows]
        return LayerRing(keys, values, held, places, order, self._ends, step, self.spec)

    def spread(self) -> None:
        """Copy the first block of rows into all others."""
        blocks = len(self._filled)
        for tensor in self.tensors().values():
            first = tensor[:, : self.batch]
            tensor.copy_(repeat(first, "l b ... -> l (n b) ...", n=blocks))
        self._filled = [self._filled[0]] * blocks

    def _takes(self, uses: Sequence[Use], rooms: Sequence[int]) -> bool:
        """Whether the slot given up is taken off the order: officially at every `steps`-th pass, whosever it is."""
        if not self.spec.official:
            return uses[0].first
        if all(rooms):
            return False
        if self._countdown > 1:
            self._countdown -= 1
            return False
        self._countdown = self.spec.steps
        return True

    def _compares(self, uses: Sequence[Use], rooms: Sequence[int]) -> bool:
        """Only chunks of one frame are compared with the sink."""
        spec = self.spec
        asked = spec.sink > 0 and spec.threshold > -1 and uses[0].frames == 1
        return asked and (spec.official or (uses[0].first and not all(rooms)))

    def _rotation(self, uses: Sequence[Use]) -> Rotation:
        each = [self.rope.at(range(use.position, use.position + use.frames)) for use in uses]
        if len(each) == 1:
            return each[0]
        return Rotation(
            *(torch.stack(tables).repeat_interleave(self.batch, dim=0) for tables in zip(*each, strict=True))
        )

    def _mask(self, visible: Sequence[int], slots: int) -> Tensor:
        """Which tokens of the slots the rows see."""
        seen = torch.tensor(visible, dtype=torch.int64)[:, None] * self.frame_tokens
        mask = torch.arange(slots * self.frame_tokens) < seen
        return repeat(mask, "n k -> (n b) 1 1 k", b=self.batch).to(self.keys.device)

    def _counted(self, starts: Sequence[int], count: int) -> Tensor:
        """``start, start + 1, ...`` by row."""
        return self._by_row(starts)[:, None] + torch.arange(count, device=self.keys.device)

    def _by_row(self, numbers: Sequence[int]) -> Tensor:
        """A number for each block as one for each row."""
        if len(set(numbers)) == 1:
            return torch.full((len(numbers) * self.batch,), numbers[0], device=self.keys.device)
        return torch.tensor(numbers, dtype=torch.int64).repeat_interleave(self.batch).to(self.keys.device)

    def _move(self, rows: slice, by: int) -> None:
        """Let the positions of the frames held fall by so much, their keys with them; not below their rank."""
        places = self.places[:, rows]
        there = places >= 0
        before = (places[..., None, :] < places[..., :, None]) & there[..., None, :]
        twin = (places[..., None, :] == places[..., :, None]).tril(-1).any(dim=-1)  # an earlier slot holds it, too
        rank = (before & ~twin[..., None, :]).sum(dim=-1)
        moved = torch.where(there, torch.maximum(places - by, rank), places)
        for keys, change in zip(self.keys, moved - places, strict=True):
            own = keys[rows].unflatten(1, (self.spec.slots, -1))
            own.copy_(rotate(own, self.rope.steps(change[..., None])))
        places.copy_(moved)

    # --- part of a CacheOps -------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """The buffers by name."""
        order = {f"order.{name}": tensor for name, tensor in self.order._asdict().items()}
        return {"keys": self.keys, "values": self.values, "held": self.held, "places": self.places, **order}

    def snapshot(self) -> tuple[dict[str, Tensor], list[int], int]:
        """A copy of the whole state."""
        return {name: tensor.clone() for name, tensor in self.tensors().items()}, list(self._filled), self._countdown

    def restore(self, snapshot: tuple[dict[str, Tensor], list[int], int]) -> None:
        """Put a `snapshot` back, bit for bit, into the same tensors."""
        tensors, filled, self._countdown = snapshot
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self._filled = list(filled)

    def reset(self) -> None:
        """Back to the state of a fresh stream."""
        for name, tensor in self.tensors().items():
            tensor.fill_(-1 if name in ("held", "places") else 0)
        self._filled = [0] * len(self._filled)
        self._countdown = self.spec.steps
