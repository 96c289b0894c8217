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
    """The rows among which a sparse layer chooses.

    Attributes:
        before: rows in front of them (references).
        frames: latent frames of sink and bank.
        tokens: rows of a frame.
        chosen: how many frames a head sees.
    """

    before: int
    frames: int
    tokens: int
    chosen: int


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
    begin, end = memories.before, memories.before + memories.frames * memories.tokens
    frames = rearrange(keys[:, begin:end], "b (f t) h d -> b h f t d", t=memories.tokens)
    scores = torch.einsum("b h d, b h f d -> b h f", query.mean(dim=1), frames.mean(dim=3))
    seen = None if visible is None else visible[:, 0, :, begin : end : memories.tokens]
    if seen is not None:
        scores = scores.masked_fill(~seen, float("-inf"))
    best = torch.topk(scores, min(memories.chosen, memories.frames)).indices.sort(dim=-1).values

    def picked(tensor: Tensor) -> Tensor:
        held = rearrange(tensor[:, begin:end], "b (f t) h d -> b h f t d", t=memories.tokens)
        index = repeat(best, "b h k -> b h k t d", t=memories.tokens, d=held.shape[-1])
        taken = rearrange(held.gather(2, index), "b h k t d -> b (k t) h d")
        return torch.cat([tensor[:, :begin], taken, tensor[:, end:]], dim=1)

    if seen is None or visible is None:
        return picked(keys), picked(values), None
    heads = visible.expand(-1, keys.shape[2], -1, -1)
    kept = repeat(seen.expand_as(scores).gather(2, best), "b h k -> b h 1 (k t)", t=memories.tokens)
    return picked(keys), picked(values), torch.cat([heads[..., :begin], kept, heads[..., end:]], dim=-1)
