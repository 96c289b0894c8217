"""What a MemFlow stream remembers: keys and values of sink and window, the memory bank, the newest clean latents for a
recache, the prompt, and what the base made of the references.
"""

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
from vace_adapt_memflow.attention import Memories, MemoryLayer
from vace_adapt_memflow.bank import MemoryBank
from vace_adapt_memflow.settings import MemFlowSettings


class MemFlowCache:
    """`CacheOps` of the native model.

    Args:
        ring: sink and window, with slots for the bank.
        bank: in these slots.
        recent: clean latents.
        text: the prompt.
        slots: what was made of the references; None where no slots are reserved.
        sparse: frames of sink and bank that a head sees; None for all.
    """

    def __init__(
        self,
        ring: RingCache,
        bank: MemoryBank,
        recent: RecentLatents,
        text: TextMemory,
        slots: ReferenceSlots | None = None,
        sparse: int | None = None,
    ) -> None:
        self.ring = ring
        self.bank = bank
        self.recent = recent
        self.text = text
        self.slots = slots
        self.layout = ring.layout
        self._sparse = sparse

    @classmethod
    def open(
        cls, parts: PipelineParts, shapes: ChunkShapes, batch: int, references: ReferenceRoom | None
    ) -> MemFlowCache:
        """Allocate the memory of one stream."""
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
        ring = RingCache(
            ring_spec(settings), rope, **sizes, compiled=parts.compiled, references=reserved, bank=settings.bank
        )
        recent = RecentLatents(settings.slots, shapes.latent_shape(batch, 0), parts.dtype, parts.device)
        text = TextMemory(parts.model.blocks).reserve(batch, backbone.text_len, parts.dtype, parts.device)
        slots = None if references is None else ReferenceSlots(references, rope, **sizes)
        return cls(
            ring, bank_of(ring, settings), recent, text, slots, settings.sparse_frames if settings.sparse else None
        )

    def layers(
        self, step: RingPass, references: Callable[[int], SlotLayer] | None = None
    ) -> Callable[[int], LayerCache | MemoryLayer]:
        """Every layer's cache for a pass over all rows.

        Args:
            step: from the ring, with the bank as full as it is.
            references: what the base made of the references the pass sees, by layer.
        """
        seen = self.bank.visible((step.references, step.visible))
        memories = None
        if self._sparse is not None:
            tokens = self.ring.frame_tokens
            count = step.bank // tokens + self.layout.sink
            rows = step.references + step.bank + step.visible
            memories = Memories.between(step.references, count, tokens, rows, self._sparse, step.slots.device)

        def layer(index: int) -> LayerCache | MemoryLayer:
            cache = self.ring.layer(index, step, None if references is None else references(index))
            return cache if seen is None and memories is None else MemoryLayer(cache, seen, memories)

        return layer

    def tensors(self) -> Mapping[str, Tensor]:
        slots = {} if self.slots is None else self.slots.tensors()
        kept = {**self.ring.tensors(), **self.bank.tensors(), "recent": self.recent.latents}
        return {**kept, **self.text.tensors(), **slots}

    def positions(self, row: int = 0) -> Sequence[int]:
        """Frame slots, then the first layer's bank. Reads the bank back from the device: not for the step loop."""
        return (*self.ring.positions(row), *self.bank.frames[0, row].tolist())

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


def ring_spec(settings: MemFlowSettings) -> RingSpec:
    """MemFlow's window and sink as a ring. Passes over a chunk all write it whole: only the last of them is kept."""
    return RingSpec(settings.slots, settings.sink, evicts=settings.window != -1, protect_sink=False)


def bank_of(ring: RingCache, settings: MemFlowSettings) -> MemoryBank:
    """The bank in a ring's slots for it."""
    return MemoryBank(
        ring,
        interval=settings.record_interval,
        every_chunk=settings.memory == "single",
        again=settings.official_quirks,
    )
