"""What a LongLive stream remembers: keys and values, the newest clean latents for a recache, and the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.recent import RecentLatents
from vace_adapt.cache.ring import RingCache, RingSpec
from vace_adapt.cache.text import TextMemory
from vace_adapt.contract import ChunkShapes, PipelineParts
from vace_adapt_longlive.settings import LongLiveSettings


class LongLiveCache:
    """`CacheOps` of the native model: a ring of keys and values, recent latents, and text keys and values."""

    def __init__(self, ring: RingCache, recent: RecentLatents, text: TextMemory) -> None:
        self.ring = ring
        self.recent = recent
        self.text = text
        self.layout = ring.layout

    @classmethod
    def open(cls, parts: PipelineParts, shapes: ChunkShapes, batch: int) -> LongLiveCache:
        """Allocate the memory of one stream."""
        spec = ring_spec(parts.settings)
        ring = RingCache(
            spec,
            RotaryGrid(parts.backbone.head_dim, shapes.grid, parts.device),
            layers=parts.backbone.layers,
            batch=batch,
            heads=parts.backbone.heads,
            head_dim=parts.backbone.head_dim,
            dtype=parts.dtype,
            device=parts.device,
            compiled=parts.compiled,
        )
        recent = RecentLatents(spec.slots, shapes.latent_shape(batch, 0), parts.dtype, parts.device)
        text = TextMemory(parts.model.blocks).reserve(batch, parts.backbone.text_len, parts.dtype, parts.device)
        return cls(ring, recent, text)

    def tensors(self) -> Mapping[str, Tensor]:
        return {**self.ring.tensors(), "recent": self.recent.latents, **self.text.tensors()}

    def positions(self, row: int = 0) -> Sequence[int]:
        return self.ring.positions(row)

    def snapshot(self) -> Any:
        return self.ring.snapshot(), self.recent.latents.clone(), self.recent.end, self.text.snapshot()

    def restore(self, snapshot: Any) -> None:
        ring, latents, self.recent.end, text = snapshot
        self.ring.restore(ring)
        self.recent.latents.copy_(latents)
        self.text.restore(text)

    def reset(self) -> None:
        self.ring.reset()
        self.recent.latents.zero_()
        self.recent.end = 0
        self.text.reset()


def ring_spec(settings: LongLiveSettings) -> RingSpec:
    """LongLive's window and sink as a ring."""
    return RingSpec(settings.slots, settings.sink, evicts=settings.window != -1, relative=settings.rope == "relative")
