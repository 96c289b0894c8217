"""A model with the calling convention of the official `CausalWanModel`, in own words, for tests of layout ``official``.

What it shares with the official object: `blocks` called as ``block(x, **kwargs)`` with ``e`` [B, F, 6, D] and
``context``, which return ``x``; dictionaries for each layer, written in place row by row; latents embedded row by row;
the order of slots in ``self_attn.evict_idx``, made where there is none and left there, ``sink_size`` and
``adapt_sink_thr`` beside it. The arithmetic inside a block is the native one, so outputs can be compared.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vace_adapt.attention.plain import attend, text_projections
from vace_adapt.attention.rope import RotaryGrid, rotate
from vace_adapt.cache.text import TextLayer
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.models.wan_block import run_block


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sink_size = 3
        self.adapt_sink_thr = -1
        self.evict_idx = None


class Block(nn.Module):
    def __init__(self, native: nn.Module) -> None:
        super().__init__()
        self.native = native
        self.self_attn = SelfAttention()

    def forward(self, x, e, grid, context, kv_cache, crossattn_cache, current_start, current_end) -> Tensor:
        if not crossattn_cache["is_init"]:
            key, value = text_projections(self.native.attn2, context)
            crossattn_cache.update(k=key, v=value, is_init=True)
        tokens, order = grid[1] * grid[2], self.self_attn
        if order.evict_idx is None:
            order.evict_idx = [[] for _ in x]

        def ring(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            rope = RotaryGrid(key.shape[-1], (grid[1], grid[2]), key.device)
            seen = []
            for row, begin in enumerate(current_start.tolist()):
                at = slice(row, row + 1)
                rotation = rope.at(range(begin // tokens, begin // tokens + grid[0]))
                own = rotate(key[at], rotation)
                length = self._put(kv_cache, row, own, value[at], begin, tokens)
                keys, values = kv_cache["k"][at, :length], kv_cache["v"][at, :length]
                seen.append(attend(rotate(query[at], rotation), keys, values))
            return torch.cat(seen)

        text = TextLayer(context, crossattn_cache["k"], crossattn_cache["v"])
        return run_block(self.native, x, e[:, 0], text, ring)

    def _put(self, cache, row: int, key: Tensor, value: Tensor, begin: int, tokens: int) -> int:
        """Write a row's keys and values where its list says; how many tokens are held then."""
        order, (new, size) = self.self_attn, (key.shape[1], cache["k"].shape[1])
        ends, sink = order.evict_idx[row], order.sink_size * tokens
        if sink and order.adapt_sink_thr > -1 and new <= tokens:
            alike = (
                sum(self._alike(cache[name][row, :sink], own, tokens) for name, own in (("k", key), ("v", value))) / 2
            )
            if alike.min() < order.adapt_sink_thr:
                ends.insert(0, (int(alike.argmin()) + 1) * tokens)
        held, stop = int(cache["local_end_index"][row]), begin + new
        if stop > size or held >= size:
            end, held = ends[0], size
            if len(cache["k"]) == 1 and cache["current_step"] > 1:
                cache["current_step"] -= 1
            else:
                cache["current_step"] = cache["total_steps"]
                if (given := ends.pop(0)) > sink:
                    ends.append(given)
        else:
            end = held = held + stop - int(cache["global_end_index"][row])
            if sink < stop + new <= size and ends[-1:] != [stop + new]:
                ends.append(stop + new)
        cache["k"][row, end - new : end], cache["v"][row, end - new : end] = key[0], value[0]
        cache["global_end_index"][row], cache["local_end_index"][row] = stop, held
        return held

    @staticmethod
    def _alike(held: Tensor, new: Tensor, tokens: int) -> Tensor:
        frames = held.unflatten(0, (-1, tokens)).mean(dim=1).flatten(1)
        return torch.cosine_similarity(frames, new[0].mean(dim=0).flatten()[None], dim=-1)


class OfficialShaped(nn.Module):
    """Built around a native model, whose weights it uses."""

    def __init__(self, native: CausalWan) -> None:
        super().__init__()
        self.native = native
        self.num_heads = native.config.num_attention_heads
        self.patch_embedding = native.patch_embedding
        self.blocks = nn.ModuleList(Block(block) for block in native.blocks)

    def forward(self, x, t, context, seq_len, kv_cache, crossattn_cache, **where) -> Tensor:
        batch, _, frames, height, width = x.shape
        grid = (frames, height // 2, width // 2)
        assert frames * grid[1] * grid[2] <= seq_len
        assert t.shape == (batch, frames)
        embedded, modulation = self.native._embed_time(t[:, 0], context.dtype)
        rows = [self.patch_embedding(row[None]).flatten(2).transpose(1, 2) for row in x]
        hidden, text = torch.cat(rows).contiguous(), self.native.embed_text(context)
        for block, layer, words in zip(self.blocks, kv_cache, crossattn_cache, strict=True):
            hidden = block(
                hidden,
                e=modulation[:, None].expand(-1, frames, -1, -1),
                grid=grid,
                context=text,
                kv_cache=layer,
                crossattn_cache=words,
                **where,
            )
        return self.native._unpatch(hidden, embedded, x)
