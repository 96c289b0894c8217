"""What a stream of the reference pipeline remembers."""

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


class Memory:
    """`CacheOps`: a ring of keys and values, the newest latents for a recache, the prompt, and reference slots where
    some are reserved.
    """

    def __init__(self, parts: PipelineParts, shapes: ChunkShapes, batch: int, references: ReferenceRoom | None) -> None:
        settings, backbone = parts.settings, parts.backbone
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
        self.ring = RingCache(RingSpec(settings.window, settings.sink), rope, **sizes, references=reserved)
        self.recent = RecentLatents(settings.window, shapes.latent_shape(batch, 0), parts.dtype, parts.device)
        self.text = TextMemory(parts.model.blocks).reserve(batch, backbone.text_len, parts.dtype, parts.device)
        self.slots = None if references is None else ReferenceSlots(references, rope, **sizes)
        self.layout = self.ring.layout

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
