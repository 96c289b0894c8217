"""What a LongLive stream remembers: keys and values, the newest clean latents for a recache, the prompt, and what the
base made of the references.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.recent import RecentLatents
from vace_adapt.cache.ring import RingCache, RingSpec
from vace_adapt.cache.slots import ReferenceSlots
from vace_adapt.cache.text import TextMemory
from vace_adapt.contract import ChunkShapes, PipelineParts, ReferenceRoom
from vace_adapt_longlive.settings import LongLiveSettings


class LongLiveCache:
    """`CacheOps` of the native model: a ring of keys and values, recent latents, text keys and values, and slots for
    references where some are reserved.
    """

    def __init__(
        self, ring: RingCache, recent: RecentLatents, text: TextMemory, slots: ReferenceSlots | None = None
    ) -> None:
        self.ring = ring
        self.recent = recent
        self.text = text
        self.slots = slots
        self.layout = ring.layout

    @classmethod
    def open(
        cls, parts: PipelineParts, shapes: ChunkShapes, batch: int, references: ReferenceRoom | None
    ) -> LongLiveCache:
        """Allocate the memory of one stream."""
        spec, backbone = ring_spec(parts.settings), parts.backbone
        rope = RotaryGrid(backbone.head_dim, shapes.grid, parts.device)
        sizes: Any = {
            "layers": backbone.layers,
            "batch": batch,
            "heads": backbone.heads,
            "head_dim": backbone.head_dim,
            "dtype": parts.dtype,
            "device": parts.device,
        }
        reserved = 0 if references is None else references.slots
        ring = RingCache(spec, rope, **sizes, compiled=parts.compiled, references=reserved)
        recent = RecentLatents(spec.slots, shapes.latent_shape(batch, 0), parts.dtype, parts.device)
        text = TextMemory(parts.model.blocks).reserve(batch, backbone.text_len, parts.dtype, parts.device)
        return cls(ring, recent, text, None if references is None else ReferenceSlots(references, rope, **sizes))

    def tensors(self) -> Mapping[str, Tensor]:
        slots = {} if self.slots is None else self.slots.tensors()
        return {**self.ring.tensors(), "recent": self.recent.latents, **self.text.tensors(), **slots}

    def positions(self, row: int = 0) -> Sequence[int]:
        return self.ring.positions(row)

    def snapshot(self) -> Any:
        slots = None if self.slots is None else self.slots.snapshot()
        return self.ring.snapshot(), self.recent.latents.clone(), self.recent.end, self.text.snapshot(), slots

    def restore(self, snapshot: Any) -> None:
        ring, latents, self.recent.end, text, slots = snapshot
        self.ring.restore(ring)
        self.recent.latents.copy_(latents)
        self.text.restore(text)
        if self.slots is not None:
            self.slots.restore(slots)

    def reset(self) -> None:
        self.ring.reset()
        self.recent.latents.zero_()
        self.recent.end = 0
        self.text.reset()
        if self.slots is not None:
            self.slots.reset()


def ring_spec(settings: LongLiveSettings) -> RingSpec:
    """LongLive's window and sink as a ring."""
    return RingSpec(settings.slots, settings.sink, evicts=settings.window != -1, relative=settings.rope == "relative")
