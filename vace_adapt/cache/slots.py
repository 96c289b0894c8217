"""What the base makes of the references: keys and values of every block, for each pass of a chunk that sees them.

They depend on the references, the prompt and the pass's noise level, not on the chunk. So the base runs over the
references once for each denoise step, and again when one of these changes; in between they are reused exactly. Keys are
kept without rotation: a chunk puts them at its own positions (`vace_adapt.cache.ring.RingCache.layer`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial

import torch
from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.ring import LayerCache, SlotLayer
from vace_adapt.contract import ReferenceRoom, SlotReferences

Snapshot = tuple[Tensor, Tensor, dict[int, Hashable]]


class ReferenceSlots:
    """Keys and values of a stream's references in every layer, in buffers reserved when the stream opens.

    Args:
        room: how many references, and how many passes of a chunk see them.
        rope: rotations for this stream's latent size.
        layers, batch, heads, head_dim: sizes of the buffers, each [passes, layers, B, slots * tokens, H, d].
        dtype, device: of the buffers.
    """

    def __init__(
        self,
        room: ReferenceRoom,
        rope: RotaryGrid,
        *,
        layers: int,
        batch: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._frame_tokens = rope.grid[0] * rope.grid[1]
        rows = room.slots * self._frame_tokens
        shape = (room.passes, layers, batch, rows, heads, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self._made_of: dict[int, Hashable] = {}
        self._rows = torch.arange(rows).to(device)
        self._rotation = rope.at(range(room.slots))

    def take(
        self, references: SlotReferences, prompt: int, run: Callable[[Callable[[int], LayerCache]], object]
    ) -> Callable[[int], SlotLayer]:
        """Keys and values of references in each layer.

        Args:
            references: what the pass sees.
            prompt: number of the prompt in force; another prompt has another one.
            run: runs the base over the references with the layer caches given to it. Called only where what is kept of
                the step was made of something else.
        """
        step = range(len(self.keys))[references.step]
        rows = references.count * self._frame_tokens
        made_of = (references.count, references.made_of, prompt)
        if self._made_of.get(step) != made_of:
            self._made_of.pop(step, None)
            run(partial(self._own, step, rows))
            self._made_of[step] = made_of
        return partial(self._kept, step, rows)

    def _own(self, step: int, rows: int, layer: int) -> LayerCache:
        """A layer's cache for the pass over the references: they see themselves, as frames 0, 1, ..."""
        rotation = self._rotation.rows(0, rows)
        return LayerCache(*self._kept(step, rows, layer), self._rows[:rows], None, rotation, rotation)

    def _kept(self, step: int, rows: int, layer: int) -> SlotLayer:
        return SlotLayer(self.keys[step, layer, :, :rows], self.values[step, layer, :, :rows])

    # --- part of a CacheOps -------------------------------------------------------------------------------------------

    def tensors(self) -> Mapping[str, Tensor]:
        """The buffers by name."""
        return {"slots.keys": self.keys, "slots.values": self.values}

    def snapshot(self) -> Snapshot:
        """A copy of the whole state."""
        return self.keys.clone(), self.values.clone(), dict(self._made_of)

    def restore(self, snapshot: Snapshot) -> None:
        """Put a `snapshot` back, bit for bit, into the same tensors."""
        keys, values, made_of = snapshot
        self.keys.copy_(keys)
        self.values.copy_(values)
        self._made_of = dict(made_of)

    def reset(self) -> None:
        """Back to the state of a fresh stream."""
        self.keys.zero_()
        self.values.zero_()
        self._made_of = {}
