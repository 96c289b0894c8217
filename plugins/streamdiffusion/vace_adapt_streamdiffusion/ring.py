"""A cache of keys and values that is full soon and then gives up one slot for each chunk, where no slot is moved.

A frame slot holds the keys and values of one latent frame. The first `sink` slots keep the stream's first frames until
one of them no longer resembles what is made (`vace_adapt_streamdiffusion.order`). In front of the frame slots there may
be reserved ones, where a pass puts keys and values of the references that it sees.

Rows stand in blocks of B, the rows of the stream: one block, or one for each denoise step (stream batch), whose chunk
is another one. What a pass sees equals chenfengxu714/StreamDiffusionV2 models/wan/causal_model.py
(``CausalWanSelfAttention.forward``), but for the references.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid, rotate
from vace_adapt.cache.ring import SlotLayer
from vace_adapt.compiling import mark_growing
from vace_adapt.errors import InputError
from vace_adapt_streamdiffusion.order import Asked, Order
from vace_adapt_streamdiffusion.plan import Use, by_row, counted, in_front, mask, rotation
from vace_adapt_streamdiffusion.positions import lowered
from vace_adapt_streamdiffusion.ring_layer import LayerRing, RingPass, RingSpec


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
        references: reserved slots, each for one reference.
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
        references: int = 0,
    ) -> None:
        self.spec = spec
        self.rope = rope
        self.batch = batch
        self.compiled = compiled
        self.references = references
        self.frame_tokens = rope.grid[0] * rope.grid[1]
        self._reserved = references * self.frame_tokens
        rows = blocks * batch
        shape = (layers, rows, self._reserved + spec.slots * self.frame_tokens, heads, head_dim)
        self._keys = torch.zeros(shape, dtype=dtype, device=device)
        self._values = torch.zeros(shape, dtype=dtype, device=device)
        self.keys, self.values = (tensor[:, :, self._reserved :] for tensor in (self._keys, self._values))
        slots = (layers, rows, spec.slots)
        self.held, self.places = (torch.full(slots, -1, dtype=torch.int64, device=device) for _ in range(2))
        self.order = Order.fresh(layers, rows, device)
        self._ends = torch.tensor(spec.ends, dtype=torch.int64).to(device)
        self._filled = [0] * blocks
        self._countdown = spec.steps

    # --- passes -------------------------------------------------------------------------------------------------------

    def chunk_pass(self, block: int, uses: Sequence[Use]) -> RingPass:
        """A pass over chunks in neighbouring blocks of rows, the first of them number `block`."""
        most = max(use.references for use in uses)
        if most > self.references:
            raise InputError(f"{most} references do not fit the cache's {self.references} reserved slots")
        rooms = []
        for number, use in enumerate(uses, block):
            if use.moved and use.first:
                self._lower(slice(number * self.batch, (number + 1) * self.batch), use.moved)
            rooms.append(self._room(number, use))
        visible = [self._filled[number] for number in range(block, block + len(uses))]
        compares = self._compares(uses, rooms)
        slots = max(*visible, self.spec.sink if compares else 0)
        batch, device = self.batch, self.keys.device
        rows = slice(block * batch, (block + len(uses)) * batch)
        takes = torch.full((rows.stop - rows.start,), self._takes(uses, rooms), device=device)
        return RingPass(
            rows=rows,
            rotation=rotation(uses, self.rope, batch),
            asked=Asked(by_row(rooms, batch, device), takes, compares),
            slots=slots,
            mask=mask(uses, visible, slots, self.frame_tokens, batch, device),
            frames=counted([use.start for use in uses], uses[0].frames, batch, device),
            places=counted([use.position for use in uses], uses[0].frames, batch, device),
            front=most * self.frame_tokens,
            references=tuple(in_front(use, self.rope) for use in uses),
        )

    def rebuilding_pass(self, row: int, start: int, frames: int, position: int) -> RingPass:
        """A pass in the first block over one row of the stream, whose memory then holds these frames alone."""
        for tensor in self.order:
            tensor[:, row] = 0
        for tensor in (self.held, self.places):
            tensor[:, row] = -1
        device = self.keys.device
        takes = torch.zeros(1, dtype=torch.bool, device=device)
        return RingPass(
            rows=slice(row, row + 1),
            rotation=self.rope.at(range(position, position + frames)),
            asked=Asked(by_row([frames], 1, device), takes, compares=False),
            slots=frames,
            mask=None,
            frames=counted([start], frames, 1, device),
            places=counted([position], frames, 1, device),
        )

    def layer(self, index: int, step: RingPass, references: Sequence[SlotLayer | None] = ()) -> LayerRing:
        """The buffers of layer `index` for a pass, with the references that its chunks see put into their places."""
        rows = step.rows
        seen = slice(self._reserved - step.front, self._reserved + step.slots * self.frame_tokens)
        keys, values = self._keys[index, rows, seen], self._values[index, rows, seen]
        for number, (place, made) in enumerate(zip(step.references, references, strict=bool(references))):
            assert (place is None) == (made is None)
            if place is not None and made is not None:
                tokens, rotation = place
                own, at = slice(number * self.batch, (number + 1) * self.batch), slice(step.front - tokens, step.front)
                keys[own, at] = rotate(made.key, rotation)
                values[own, at] = made.value
        if self.compiled:
            for tensor in (keys, values):
                mark_growing(tensor, 1)
        order = Order(*(tensor[index, rows] for tensor in self.order))
        held, places = self.held[index, rows], self.places[index, rows]
        return LayerRing(keys, values, held, places, order, self._ends, step, self.spec)

    def spread(self, row: int | None = None) -> None:
        """Copy the first block of rows into all others; or one row of it."""
        own = slice(self.batch) if row is None else slice(row, row + 1)
        for tensor in self.tensors().values():
            blocks = tensor.unflatten(1, (-1, self.batch))
            blocks[:, 1:, own] = tensor[:, None, own]
        self._filled = [self._filled[0]] * len(self._filled)

    # --- what a pass is made of ---------------------------------------------------------------------------------------

    def _room(self, number: int, use: Use) -> int:
        """Number of the slot behind those that are free for a chunk in a block of rows; 0 for none."""
        end, slots = use.start + use.frames, self.spec.slots
        full = end > slots or (self.spec.official and self._filled[number] >= slots)
        self._filled[number] = slots if full else end
        return 0 if full else end

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

    def _lower(self, rows: slice, by: int) -> None:
        """Let the positions of the frames held fall by so much, their keys with them; not below their rank."""
        places = self.places[:, rows]
        lower = lowered(places, by)
        for keys, change in zip(self.keys, lower - places, strict=True):
            own = keys[rows].unflatten(1, (self.spec.slots, -1))
            own.copy_(rotate(own, self.rope.steps(change[..., None])))
        places.copy_(lower)

    # --- part of a CacheOps -------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """The buffers by name."""
        order = {f"order.{name}": tensor for name, tensor in self.order._asdict().items()}
        return {"keys": self._keys, "values": self._values, "held": self.held, "places": self.places, **order}

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
