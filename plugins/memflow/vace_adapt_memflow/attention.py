"""Self-attention that does not see all of the memory: rows whose banks are not equally full, and sparse memory
activation, where each head sees only the frames of sink and bank that are nearest to its query.

In own words after KlingTeam/MemFlow wan/modules/causal_model.py (``dynamic_topk_routing_attention``).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor

from vace_adapt.attention.plain import attend
from vace_adapt.cache.ring import LayerCache


class Memories(NamedTuple):
    """The rows among which a sparse layer chooses; tensors, so that one graph serves any number of them.

    Attributes:
        frames: int64 [frames, T], rows of each latent frame of sink and bank.
        others: int64 [K - frames * T], rows that are seen in any case.
        chosen: how many frames a head sees.
    """

    frames: Tensor
    others: Tensor
    chosen: int

    @classmethod
    def between(cls, before: int, count: int, tokens: int, rows: int, chosen: int, device: torch.device) -> Memories:
        """`count` frames of `tokens` rows behind the first `before` of `rows` rows."""
        every = torch.arange(rows, device=device)
        first, frames, last = every.tensor_split([before, before + count * tokens])
        return cls(frames.unflatten(0, (-1, tokens)), torch.cat([first, last]), min(chosen, count))


class MemoryLayer(NamedTuple):
    """One layer's buffers during a pass, in place of a `LayerCache`.

    Attributes:
        cache: the buffers.
        visible: bool [B, 1, 1, K], the rows a batch row sees; None for all.
        memories: what a sparse layer chooses from; None sees everything.
    """

    cache: LayerCache
    visible: Tensor | None
    memories: Memories | None

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Write the pass's key and value [B, L, H, d] in place, then attend to what is seen."""
        query = self.cache.write(query, key, value)
        keys, values, visible = self.cache.keys, self.cache.values, self.visible
        if self.memories is not None:
            keys, values, visible = _chosen(query, keys, values, visible, self.memories)
        return attend(query, keys, values, visible)


def _chosen(
    query: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, memories: Memories
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keys and values [B, K', H, d] with only those memories that each head has chosen, and which of them are seen.

    A frame's score is the product of its mean key with the mean query.
    """
    held = rearrange(
        keys.index_select(1, memories.frames.flatten()), "b (f t) h d -> b f t h d", t=memories.frames.shape[1]
    )
    scores = torch.einsum("b h d, b f h d -> b h f", query.mean(dim=1), held.mean(dim=2))
    if visible is not None:
        seen = visible[:, 0].index_select(2, memories.frames[:, 0])
        scores = scores.masked_fill(~seen, float("-inf"))
    best = torch.topk(scores, memories.chosen).indices
    rows = memories.frames[best].flatten(2)
    others = memories.others.expand(*rows.shape[:2], -1)
    index = torch.cat([rows, others], dim=2)
    picked = repeat(index, "b h k -> b k h d", d=keys.shape[-1])
    kept = None if visible is None else visible.expand(-1, keys.shape[2], -1, -1).gather(3, index[:, :, None])
    return keys.gather(1, picked), values.gather(1, picked), kept
