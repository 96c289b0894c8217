"""The reference pipeline's bank: the first latent frame of each chunk that leaves the window. The oldest goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vace_adapt.attention.plain import attend
from vace_adapt.cache.ring import LayerCache, RingCache


class Bank:
    """Keys and values of old frames, in the slots a ring has for them: the k-th one taken is k-th from the last slot,
    so that the slots in use lie in front of the window. Rows differ where one was emptied.
    """

    def __init__(self, ring: RingCache, batch: int) -> None:
        self.ring = ring
        self._held = [[-1] * self.size for _ in range(batch)]
        self._next = [0] * batch

    @property
    def size(self) -> int:
        return self.ring.layout.bank

    @property
    def filled(self) -> int:
        """Slots in use, in the row that has most."""
        return max(self._counts())

    def take(self, frame: int) -> None:
        """Copy a latent frame of the window, in every row."""
        keys, values = self.ring.frame(frame)
        for row, held in enumerate(self._held):
            first = (self.size - 1 - self._next[row]) * self.ring.frame_tokens
            rows = slice(first, first + self.ring.frame_tokens)
            self.ring.bank_keys[:, row, rows] = keys[:, row]
            self.ring.bank_values[:, row, rows] = values[:, row]
            held[self._next[row]] = frame
            self._next[row] = (self._next[row] + 1) % self.size

    def empty(self, row: int) -> None:
        """Forget everything of a batch row."""
        self._held[row], self._next[row] = [-1] * self.size, 0
        self.ring.bank_keys[:, row].zero_()
        self.ring.bank_values[:, row].zero_()

    def visible(self, before: int, behind: int) -> Tensor | None:
        """Which keys a row sees, bool [B, 1, 1, K], with so many others around the bank; None where all see all."""
        counts = self._counts()
        if min(counts) == self.filled:
            return None
        used = torch.arange(self.filled) >= self.filled - torch.tensor(counts)[:, None]
        seen = F.pad(used.repeat_interleave(self.ring.frame_tokens, dim=1), (before, behind), value=True)
        return seen[:, None, None].to(self.ring.keys.device)

    def positions(self, row: int) -> Sequence[int]:
        return tuple(self._held[row])

    def snapshot(self) -> tuple[list[list[int]], list[int]]:
        """What is not in the ring's tensors."""
        return [list(held) for held in self._held], list(self._next)

    def restore(self, snapshot: tuple[list[list[int]], list[int]]) -> None:
        held, following = snapshot
        self._held, self._next = [list(frames) for frames in held], list(following)

    def reset(self) -> None:
        self._held = [[-1] * self.size for _ in self._held]
        self._next = [0] * len(self._next)

    def _counts(self) -> list[int]:
        return [sum(frame != -1 for frame in held) for held in self._held]


class BankedLayer(NamedTuple):
    """One layer's buffers where rows see different parts of the bank."""

    cache: LayerCache
    visible: Tensor

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query = self.cache.write(query, key, value)
        return attend(query, self.cache.keys, self.cache.values, self.visible)
