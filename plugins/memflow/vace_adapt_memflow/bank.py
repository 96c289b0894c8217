"""The memory bank: old keys and values that each layer chooses by the prompt (MemFlow's narrative adaptive memory).

A finished chunk offers its first latent frame. Before the next chunk is denoised, the frame on offer is taken in: into
a slot of its own while the bank fills; into a full bank by keeping the frames whose keys answer best to the prompt's
keys in the text attention of the layer. Each layer and each batch row chooses for itself.

In own words after KlingTeam/MemFlow wan/modules/causal_model.py (``_apply_cache_updates``,
``_apply_cache_updates_before``, ``compress_kv_bank``). There, the score of a frame is the mean of all products of text
keys with its keys; here it is the product of the means, which is the same number without the matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vace_adapt.cache.ring import RingCache

Prompt = Callable[[int], Tensor]
"""Layer index to the prompt's keys [B, T, H, d] in that layer."""

Snapshot = tuple[Tensor, Tensor, Tensor, list["_Row"]]


@dataclass
class _Row:
    """One batch row's bank, as the host knows it; rows differ only where one was emptied."""

    interval: int = -1
    """The interval of chunks that the frame on offer belongs to."""
    intervals: int = 0
    """Intervals from which a frame was offered."""
    filled: int = 0
    """Slots in use."""
    offered: int = -1
    """Latent frame on offer."""
    waiting: bool = False
    """Whether it was not taken in yet."""


class MemoryBank:
    """The bank of one stream, in the slots a `RingCache` has for it.

    Slot j lies j-th from the end of the ring's bank, so the slots in use are always next to the frame slots.

    Args:
        ring: the cache whose keys are offered.
        interval: chunks that share a slot while the bank fills.
        every_chunk: whether every chunk offers a frame, or only the first of an interval.
        again: take in a frame before every chunk, also one that was taken in already (`official_quirks`).

    Attributes:
        keys, values: of the frame on offer, [layers, B, T, H, d].
        frames: int64 [layers, B, slots]: latent frame in each slot, -1 for none.
    """

    def __init__(self, ring: RingCache, *, interval: int, every_chunk: bool, again: bool) -> None:
        self._ring = ring
        self._interval = interval
        self._every_chunk = every_chunk
        self._again = again
        layers, batch, _, heads, head_dim = ring.keys.shape
        size = ring.layout.bank
        self._banks = [tensor.unflatten(2, (size, -1)) for tensor in (ring.bank_keys, ring.bank_values)]
        self.keys, self.values = (
            ring.keys.new_zeros((layers, batch, ring.frame_tokens, heads, head_dim)) for _ in "kv"
        )
        self.frames = torch.full((layers, batch, size), -1, dtype=torch.int64, device=ring.keys.device)
        self._rows = [_Row() for _ in range(batch)]

    @property
    def size(self) -> int:
        return self._ring.layout.bank

    @property
    def filled(self) -> int:
        """Slots in use in the row that has most."""
        return max(row.filled for row in self._rows)

    def visible(self, step_rows: tuple[int, int]) -> Tensor | None:
        """Which keys of a pass a row sees, bool [B, 1, 1, K]; None where every row sees all of them.

        Args:
            step_rows: keys in front of the bank, and behind it.
        """
        most = self.filled
        if all(row.filled == most for row in self._rows):
            return None
        counts = torch.tensor([row.filled for row in self._rows]).to(self.frames.device)
        used = torch.arange(most, device=counts.device) >= most - counts[:, None]
        seen = used.repeat_interleave(self._ring.frame_tokens, dim=1)
        return F.pad(seen, step_rows, value=True)[:, None, None]

    def offer(self, chunk: int, start: int) -> None:
        """A chunk is finished, and its keys and values are in the ring: offer its first frame.

        Args:
            chunk: its number.
            start: its first latent frame.
        """
        interval, place = divmod(chunk, self._interval)
        if place and not self._every_chunk:
            return
        keys, values = self._ring.frame(start)
        self.keys.copy_(keys)
        self.values.copy_(values)
        for row in self._rows:
            if row.interval != interval:
                row.interval, row.intervals = interval, row.intervals + 1
            row.offered, row.waiting = start, True

    def take(self, prompt: Prompt | None) -> None:
        """Take in the frame on offer.

        Args:
            prompt: the prompt that a full bank is asked with; None for a prompt of zeros, to which all frames answer
                alike.
        """
        for number, row in enumerate(self._rows):
            if not (row.waiting or (self._again and row.intervals)):
                continue
            if row.intervals <= self.size:
                self._put(number, row.intervals - 1)
            else:
                for layer in range(len(self.frames)):
                    self._compress(layer, number, None if prompt is None else prompt(layer)[number])
            row.filled, row.waiting = min(row.intervals, self.size), False

    def empty(self, number: int) -> None:
        """Forget everything of a batch row, the frame on offer too."""
        self._rows[number] = _Row()
        self.frames[:, number] = -1
        for tensor in (*self._banks, self.keys, self.values):
            tensor[:, number].zero_()

    def _put(self, number: int, slot: int) -> None:
        for bank, offered in zip(self._banks, (self.keys, self.values), strict=True):
            bank[:, number, self.size - 1 - slot].copy_(offered[:, number])
        self.frames[:, number, slot] = self._rows[number].offered

    def _compress(self, layer: int, number: int, text: Tensor | None) -> None:
        """Keep all frames but one, best first, and put the one on offer behind them."""
        keys = self._banks[0][layer, number]
        kept = torch.topk(self._scores(keys, text), self.size - 1).indices
        frames = self.frames[layer, number]
        frames[:-1] = frames[kept]
        frames[-1] = self._rows[number].offered
        places = (self.size - 1 - kept).flip(0)
        for bank, offered in zip(self._banks, (self.keys, self.values), strict=True):
            held = bank[layer, number]
            held[1:] = held[places]
            held[0].copy_(offered[layer, number])

    def _scores(self, keys: Tensor, text: Tensor | None) -> Tensor:
        """How well each slot's frame answers, float32 [slots]: keys [slots, T, H, d] (in memory's order), text
        [T', H, d].
        """
        if text is None:
            return torch.zeros(self.size, device=keys.device)
        frames = keys.mean(dim=1, dtype=torch.float32)
        asked = text.mean(dim=0, dtype=torch.float32)
        heads = (frames * asked).sum(dim=-1) * keys.shape[-1] ** -0.5
        return heads.mean(dim=1).flip(0)

    # --- part of a CacheOps -------------------------------------------------------------------------------------------

    def tensors(self) -> Mapping[str, Tensor]:
        """The buffers by name; the slots' own are the ring's."""
        return {"bank.offered_keys": self.keys, "bank.offered_values": self.values, "bank.frames": self.frames}

    def in_slot_order(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer's slots, [B, slots * T, H, d]."""
        keys, values = (rearrange(bank[layer].flip(1), "b s t h d -> b (s t) h d") for bank in self._banks)
        return keys, values

    def snapshot(self) -> Snapshot:
        """A copy of the state that is not in the ring."""
        return self.keys.clone(), self.values.clone(), self.frames.clone(), [replace(row) for row in self._rows]

    def restore(self, snapshot: Snapshot) -> None:
        """Put a `snapshot` back, bit for bit, into the same tensors."""
        keys, values, frames, rows = snapshot
        self.keys.copy_(keys)
        self.values.copy_(values)
        self.frames.copy_(frames)
        self._rows = [replace(row) for row in rows]

    def reset(self) -> None:
        """Back to the state of a fresh stream."""
        for number in range(len(self._rows)):
            self.empty(number)
