"""The plain way to keep a window of keys and values: clone, shift, write at the end.

What `vace_adapt.cache.ring.RingCache` is compared with. It keeps the frames in their order in time, as
NVlabs/LongLive v1.0 wan/modules/causal_model.py does: every pass clones each layer's keys and values, the first pass of
a chunk shifts what is behind the sink to make room, and the chunk is written behind it. (Upstream clones the shifted
part once more and shifts its stored cache again when the pass is over, which this does not.) Absolute positions only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vace_adapt.attention.plain import attend
from vace_adapt.attention.rope import RotaryGrid, Rotation, rotate
from vace_adapt.cache.recent import RecentLatents
from vace_adapt.cache.ring import RingSpec
from vace_adapt.cache.text import TextMemory
from vace_adapt.contract import CacheLayout
from vace_adapt.facade import PipelineHooks
from vace_adapt.hookspecs import hookimpl
from vace_adapt.loading import register_plugin
from vace_adapt_longlive import plugin as longlive
from vace_adapt_longlive.cache import LongLiveCache, ring_spec


class RolledPass(NamedTuple):
    """What one pass does in every layer."""

    shift: int
    """Frames that leave from behind the sink."""
    end: int
    """Frames held when the chunk is in."""
    query: Rotation


class RolledLayer(NamedTuple):
    """One layer during a pass."""

    cache: RolledCache
    index: int
    step: RolledPass

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As `vace_adapt.cache.ring.LayerCache.attend`."""
        query, key = rotate(query, self.step.query), rotate(key, self.step.query)
        keys = self.cache.rolled(self.cache.keys[self.index], key, self.step)
        values = self.cache.rolled(self.cache.values[self.index], value, self.step)
        self.cache.keys[self.index], self.cache.values[self.index] = keys, values
        visible = self.step.end * self.cache.frame_tokens
        return attend(query, keys[:, :visible], values[:, :visible])


class RolledCache:
    """The same window and sink as a `RingCache` of this spec, for streams without reserved slots and recaches."""

    compiled = False

    def __init__(
        self,
        spec: RingSpec,
        rope: RotaryGrid,
        *,
        layers: int,
        batch: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.spec = spec
        self.rope = rope
        self.layout = CacheLayout("ring", spec.slots, spec.sink)
        self.frame_tokens = rope.grid[0] * rope.grid[1]
        shape = (batch, spec.slots * self.frame_tokens, heads, head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self._end = 0

    def chunk_pass(self, start: int, frames: int) -> RolledPass:
        """A pass over latent frames ``start .. start+frames-1``; the first one of a chunk makes room for it."""
        new = start + frames - self._end
        held = min(self._end, self.spec.slots)
        shift = max(0, held + new - self.spec.slots)
        self._end += new
        return RolledPass(shift, held + new - shift, self.rope.at(range(start, start + frames)))

    def layer(self, index: int, step: RolledPass) -> RolledLayer:
        """That layer during a pass."""
        return RolledLayer(self, index, step)

    def rolled(self, old: Tensor, new: Tensor, step: RolledPass) -> Tensor:
        """A copy of what was held [B, N, H, d], shifted, with the chunk's rows [B, L, H, d] at its end."""
        held = old.clone()
        end, sink, gone = (frames * self.frame_tokens for frames in (step.end, self.spec.sink, step.shift))
        begin = end - new.shape[1]
        if gone:
            held[:, sink:begin] = old[:, sink + gone : begin + gone]
        held[:, begin:end] = new
        return held

    def tensors(self) -> Mapping[str, Tensor]:
        """Part of a `CacheOps`: what is held now. (A ring's tensors stay the same objects; these do not.)"""
        named = {f"keys.{i}": tensor for i, tensor in enumerate(self.keys)}
        return named | {f"values.{i}": tensor for i, tensor in enumerate(self.values)}

    def positions(self, row: int = 0) -> Sequence[int]:
        """Part of a `CacheOps`."""
        first = max(self.spec.sink, self._end - (self.spec.slots - self.spec.sink))
        held = [*range(min(self.spec.sink, self._end)), *range(first, self._end)]
        return held + [-1] * (self.spec.slots - len(held))


@hookimpl
def vace_cache_ops(parts, shapes, batch, references):
    """The hook, with the cache above in LongLive's own memory."""
    assert references is None
    spec, backbone = ring_spec(parts.settings), parts.backbone
    assert spec.evicts
    assert not spec.relative
    cache: Any = RolledCache(
        spec,
        RotaryGrid(backbone.head_dim, shapes.grid, parts.device),
        layers=backbone.layers,
        batch=batch,
        heads=backbone.heads,
        head_dim=backbone.head_dim,
        dtype=parts.dtype,
        device=parts.device,
    )
    recent = RecentLatents(spec.slots, shapes.latent_shape(batch, 0), parts.dtype, parts.device)
    text = TextMemory(parts.model.blocks).reserve(batch, backbone.text_len, parts.dtype, parts.device)
    return LongLiveCache(cache, recent, text)


def rolled_longlive() -> PipelineHooks:
    """LongLive's plugin with a cache that is cloned and rolled."""
    hooks = {name: hook for name, hook in vars(longlive).items() if name.startswith("vace_")}
    hooks["vace_cache_ops"] = vace_cache_ops
    return register_plugin("longlive", type("Rolled", (), {n: staticmethod(h) for n, h in hooks.items()}), "benchmarks")
