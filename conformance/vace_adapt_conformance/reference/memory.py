"""What a stream of the reference pipeline remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.recent import RecentLatents
from vace_adapt.cache.ring import LayerCache, RingCache, RingPass, RingSpec, SlotLayer
from vace_adapt.cache.slots import ReferenceSlots
from vace_adapt.cache.text import TextMemory
from vace_adapt.contract import ChunkShapes, PipelineParts, ReferenceRoom
from vace_adapt_conformance.reference.bank import Bank, BankedLayer


class Memory:
    """`CacheOps`: a ring of keys and values, a bank of what has left it, the newest latents for a recache, the prompt,
    and reference slots where some are reserved.
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
        spec = RingSpec(settings.window, settings.sink)
        self.ring = RingCache(spec, rope, **sizes, references=reserved, bank=settings.bank)
        self.bank = Bank(self.ring, batch)
        self.recent = RecentLatents(settings.window, shapes.latent_shape(batch, 0), parts.dtype, parts.device)
        self.text = TextMemory(parts.model.blocks).reserve(batch, backbone.text_len, parts.dtype, parts.device)
        self.slots = None if references is None else ReferenceSlots(references, rope, **sizes)
        self.layout = self.ring.layout

    def layers(
        self, step: RingPass, references: Callable[[int], SlotLayer] | None = None
    ) -> Callable[[int], LayerCache | BankedLayer]:
        """Every layer's cache for a pass over all rows, with what the base made of references by layer."""
        visible = self.bank.visible(step.references, step.visible)

        def layer(index: int) -> LayerCache | BankedLayer:
            cache = self.ring.layer(index, step, references and references(index))
            return cache if visible is None else BankedLayer(cache, visible)

        return layer

    def tensors(self) -> Mapping[str, Tensor]:
        slots = {} if self.slots is None else self.slots.tensors()
        return {**self.ring.tensors(), "recent": self.recent.latents, **self.text.tensors(), **slots}

    def positions(self, row: int = 0) -> Sequence[int]:
        return (*self.ring.positions(row), *self.bank.positions(row))

    def snapshot(self) -> Any:
        slots = None if self.slots is None else self.slots.snapshot()
        recent = self.recent.latents.clone(), self.recent.end
        return self.ring.snapshot(), self.bank.snapshot(), recent, self.text.snapshot(), slots

    def restore(self, snapshot: Any) -> None:
        ring, bank, (latents, self.recent.end), text, slots = snapshot
        self.ring.restore(ring)
        self.bank.restore(bank)
        self.recent.latents.copy_(latents)
        self.text.restore(text)
        if self.slots is not None:
            self.slots.restore(slots)

    def reset(self) -> None:
        self.ring.reset()
        self.bank.reset()
        self.recent.latents.zero_()
        self.recent.end = 0
        self.text.reset()
        if self.slots is not None:
            self.slots.reset()
