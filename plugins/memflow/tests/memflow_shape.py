"""A model with the calling convention of the official MemFlow `CausalWanModel`, in own words, for tests of layout
``official``.

What it shares with the official object: `blocks` called as ``block(x, **kwargs)`` with ``e`` [B, F, 6, D], ``context``
and ``kv_bank``; output ``(x, cache_update)``; three dictionaries a layer; nothing kept unless ``update_cache``; the
frame on offer taken in before the first block with ``q_bank``. The arithmetic inside a block is the native one, so
outputs can be compared; the window is shifted left and the bank is a plain list of frames, unlike the native ones.
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
    def __init__(self, sink: int, interval: int) -> None:
        super().__init__()
        self.sink_size = sink
        self.record_interval = interval
        self.SMA = False
        self.max_attention_size = 1


class Block(nn.Module):
    def __init__(self, native: nn.Module, sink: int, interval: int) -> None:
        super().__init__()
        self.native = native
        self.self_attn = SelfAttention(sink, interval)

    def forward(self, x, e, grid, context, kv_cache, crossattn_cache, current_start, kv_bank, is_recache, update_bank):
        if not crossattn_cache["is_init"]:
            key, value = text_projections(self.native.attn2, context)
            crossattn_cache.update(k=key, v=value, is_init=True)
        update = {}
        tokens = grid[1] * grid[2]

        def remembering(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            rotation = RotaryGrid(key.shape[-1], (grid[1], grid[2]), key.device).at(
                range(current_start // tokens, current_start // tokens + grid[0])
            )
            key = rotate(key, rotation)
            sink = self.self_attn.sink_size * tokens
            keys, values, end, filled, repeated = rolled(kv_cache, key, value, current_start, sink)
            update.update(k=keys, v=values, end=end, filled=filled, repeated=repeated, new=(key, value))
            seen = self._banked(kv_bank, current_start // tokens, grid[0], is_recache) * tokens
            assert filled <= self.self_attn.max_attention_size
            keys = torch.cat([kv_bank["k"][:, :seen], keys[:, :filled]], dim=1)
            values = torch.cat([kv_bank["v"][:, :seen], values[:, :filled]], dim=1)
            return attend(rotate(query, rotation), keys, values)

        text = TextLayer(context, crossattn_cache["k"], crossattn_cache["v"])
        return run_block(self.native, x, e[:, 0], text, remembering), update

    def _banked(self, bank, start, frames, is_recache):
        """Frames of the bank that are seen, from the number of the chunk alone."""
        interval, size = self.self_attn.record_interval, bank["k"].shape[1] // bank["k_new"].shape[1]
        chunk = (start + frames) // 3 - 1
        begun = chunk // interval + 1
        return min(begun - (chunk % interval == 0 and not is_recache), size)


def rolled(cache, key, value, start, sink):
    """The buffers as they would be after this pass, shifted left by what leaves the window."""
    end, filled = int(cache["global_end_index"]), int(cache["local_end_index"])
    new, size = key.shape[1], cache["k"].shape[1]
    stop = start + new
    repeated = stop <= end and start > 0
    keys, values = cache["k"].clone(), cache["v"].clone()
    leaving = max(0, filled + new - size) if stop > end else 0
    if leaving:
        for buffer in (keys, values):
            buffer[:, sink : filled - leaving] = buffer[:, sink + leaving : filled].clone()
    filled = filled - leaving + stop - end
    first = filled - new
    kept = max(0, sink - first) if repeated else 0
    keys[:, first + kept : filled] = key[:, kept:]
    values[:, first + kept : filled] = value[:, kept:]
    return keys, values, stop, filled, repeated


def take_in(bank, text):
    """The frame on offer into the slot of its interval, or into a full bank in place of the frame that answers least."""
    tokens = bank["k_new"].shape[1]
    size = bank["k"].shape[1] // tokens
    number = int(bank["local_end_index"]) // tokens
    if number == 0:
        return
    if number <= size:
        for name in ("k", "v"):
            bank[name][:, (number - 1) * tokens : number * tokens] = bank[f"{name}_new"]
        return
    scores = torch.einsum("b t h d, b k h d -> b k", text, bank["k"]).unflatten(1, (size, tokens)).mean(dim=2)
    for row, best in enumerate(torch.topk(scores, size - 1, dim=1).indices.tolist()):
        for name in ("k", "v"):
            frames = bank[name][row].split(tokens)
            bank[name][row] = torch.cat([*(frames[slot] for slot in best), bank[f"{name}_new"][row]])


class MemFlowShaped(nn.Module):
    """Built around a native model, whose weights it uses."""

    def __init__(self, native: CausalWan, sink: int = 3, window: int = 12, bank: int = 3, interval: int = 3) -> None:
        super().__init__()
        self.native = native
        self.local_attn_size = window
        self.bank_size = bank
        self.num_heads = native.config.num_attention_heads
        self.patch_embedding = native.patch_embedding
        self.blocks = nn.ModuleList(Block(block, sink, interval) for block in native.blocks)

    def forward(
        self, x, t, context, seq_len, kv_cache, crossattn_cache, current_start, cache_start, kv_bank,
        update_bank=True, q_bank=False, update_cache=True, is_recache=False,
    ) -> Tensor:  # fmt: skip
        batch, _, frames, height, width = x.shape
        grid = (frames, height // 2, width // 2)
        assert cache_start is None
        assert frames * grid[1] * grid[2] <= seq_len
        assert t.shape == (batch, frames)
        if q_bank:
            for bank, text in zip(kv_bank, crossattn_cache, strict=True):
                take_in(bank, text["k"])
        embedded, modulation = self.native._embed_time(t[:, 0], context.dtype)
        hidden = self.patch_embedding(x).flatten(2).transpose(1, 2).contiguous()
        updates = []
        for block, layer, text, bank in zip(self.blocks, kv_cache, crossattn_cache, kv_bank, strict=True):
            hidden, update = block(
                hidden,
                e=modulation[:, None].expand(-1, frames, -1, -1),
                grid=grid,
                context=self.native.embed_text(context),
                kv_cache=layer,
                crossattn_cache=text,
                current_start=current_start,
                kv_bank=bank,
                is_recache=is_recache,
                update_bank=update_bank,
            )
            updates.append(update)
        if update_cache:
            for block, layer, bank, update in zip(self.blocks, kv_cache, kv_bank, updates, strict=True):
                self._keep(layer, bank, update, current_start, block.self_attn.record_interval, update_bank)
        return self.native._unpatch(hidden, embedded, x)

    @staticmethod
    def _keep(layer, bank, update, start, interval, update_bank):
        layer["k"].copy_(update["k"])
        layer["v"].copy_(update["v"])
        if not update["repeated"]:
            layer["global_end_index"].fill_(update["end"])
            layer["local_end_index"].fill_(update["filled"])
        if update_bank:
            tokens = bank["k_new"].shape[1]
            for name, new in zip(("k_new", "v_new"), update["new"], strict=True):
                bank[name].copy_(new[:, :tokens])
            number = start // tokens // 3 // interval + 1
            bank["global_end_index"].fill_(number * tokens)
            bank["local_end_index"].fill_(number * tokens)
