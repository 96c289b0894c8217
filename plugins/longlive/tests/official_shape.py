"""A model with the calling convention of the official `CausalWanModel`, in own words, for tests of layout ``official``.

What it shares with the official object: `blocks` called as ``block(x, **kwargs)`` with ``e`` [B, F, 6, D] and
``context``; output ``(x, cache_update)``; a cache dictionary for each layer, updated after the last block; the keyword
``kv_cache``; ``local_attn_size``, ``self_attn.sink_size`` and ``self_attn.max_attention_size``. The arithmetic inside a
block is the native one, so outputs can be compared.
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
    def __init__(self, sink: int) -> None:
        super().__init__()
        self.sink_size = sink
        self.max_attention_size = 1


class Block(nn.Module):
    def __init__(self, native: nn.Module, sink: int) -> None:
        super().__init__()
        self.native = native
        self.self_attn = SelfAttention(sink)

    def forward(self, x, e, grid, context, kv_cache, crossattn_cache, current_start, sink_recache_after_switch):
        if not crossattn_cache["is_init"]:
            key, value = text_projections(self.native.attn2, context)
            crossattn_cache.update(k=key, v=value, is_init=True)
        update = {}

        def windowed(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            tokens = grid[1] * grid[2]
            rotation = RotaryGrid(key.shape[-1], (grid[1], grid[2]), key.device).at(
                range(current_start // tokens, current_start // tokens + grid[0])
            )
            key = rotate(key, rotation)
            keys, values, end, filled, repeated = self._rolled(
                kv_cache, key, value, current_start, self.self_attn.sink_size * tokens, sink_recache_after_switch
            )
            update.update(k=keys, v=values, end=end, filled=filled, repeated=repeated)
            assert filled <= self.self_attn.max_attention_size
            return attend(rotate(query, rotation), keys[:, :filled], values[:, :filled])

        text = TextLayer(context, crossattn_cache["k"], crossattn_cache["v"])
        return run_block(self.native, x, e[:, 0], text, windowed), update

    @staticmethod
    def _rolled(cache, key, value, start, sink, rewrite_sink):
        """The buffers as they are after this pass, shifted left by what leaves the window."""
        end, filled = int(cache["global_end_index"]), int(cache["local_end_index"])
        new, size = key.shape[1], cache["k"].shape[1]
        stop = start + new
        repeated = stop <= end and start > 0
        keys, values = cache["k"].clone(), cache["v"].clone()
        if stop > end:
            leaving = max(0, filled + new - size)
            if leaving:
                for buffer in (keys, values):
                    buffer[:, sink : filled - leaving] = buffer[:, sink + leaving : filled].clone()
            filled = filled - leaving + (stop - end)
        first = filled - new
        kept = max(0, sink - first) if repeated and not rewrite_sink else 0
        keys[:, first + kept : filled] = key[:, kept:]
        values[:, first + kept : filled] = value[:, kept:]
        return keys, values, max(stop, end), filled, repeated


class OfficialShaped(nn.Module):
    """Built around a native model, whose weights it uses."""

    def __init__(self, native: CausalWan, sink: int, window: int = 12) -> None:
        super().__init__()
        self.native = native
        self.local_attn_size = window
        self.num_heads = native.config.num_attention_heads
        self.patch_embedding = native.patch_embedding
        self.blocks = nn.ModuleList(Block(block, sink) for block in native.blocks)

    def forward(self, x, t, context, seq_len, kv_cache, crossattn_cache, current_start, **options) -> Tensor:
        del options["cache_start"]
        batch, _, frames, height, width = x.shape
        grid = (frames, height // 2, width // 2)
        assert frames * grid[1] * grid[2] <= seq_len
        assert t.shape == (batch, frames)
        embedded, modulation = self.native._embed_time(t[:, 0], context.dtype)
        hidden = self.patch_embedding(x).flatten(2).transpose(1, 2).contiguous()
        updates = []
        for block, layer, text in zip(self.blocks, kv_cache, crossattn_cache, strict=True):
            hidden, update = block(
                hidden,
                e=modulation[:, None].expand(-1, frames, -1, -1),
                grid=grid,
                context=self.native.embed_text(context),
                kv_cache=layer,
                crossattn_cache=text,
                current_start=current_start,
                **options,
            )
            updates.append(update)
        for layer, update in zip(kv_cache, updates, strict=True):
            layer["k"].copy_(update["k"])
            layer["v"].copy_(update["v"])
            if not update["repeated"]:
                layer["global_end_index"].fill_(update["end"])
                layer["local_end_index"].fill_(update["filled"])
        return self.native._unpatch(hidden, embedded, x)


def count_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal_states(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
