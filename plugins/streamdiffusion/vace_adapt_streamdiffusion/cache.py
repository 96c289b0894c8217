"""What a StreamDiffusionV2 stream remembers: keys and values, the prompts of the chunks at work, and what the base made
of the references.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.slots import ReferenceSlots
from vace_adapt.cache.text import TextMemory
from vace_adapt.contract import CacheLayout, ChunkShapes, PipelineParts, ReferenceRoom
from vace_adapt_streamdiffusion.ring import AdaptiveRing
from vace_adapt_streamdiffusion.ring_layer import RingSpec
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings, ring_ends


class StreamDiffusionCache:
    """`CacheOps` of the native model: a ring of keys and values, and text keys and values, each with a block of rows
    for every denoise step of a stream batch; and slots for references where some are reserved.

    Attributes:
        prompts: number of the prompt that each block of rows holds.
    """

    def __init__(self, ring: AdaptiveRing, text: TextMemory, slots: ReferenceSlots | None = None) -> None:
        self.ring = ring
        self.text = text
        self.slots = slots
        self.prompts: list[int | None] = [None] * (ring.keys.shape[1] // ring.batch)
        self.layout = CacheLayout(
            "ring",
            ring.spec.slots,
            ring.spec.sink,
            references=ring.references,
            refreshed=ring.spec.threshold > -1,
        )

    @classmethod
    def open(
        cls, parts: PipelineParts, shapes: ChunkShapes, batch: int, references: ReferenceRoom | None
    ) -> StreamDiffusionCache:
        """Allocate the memory of one stream."""
        backbone, blocks = parts.backbone, parts.chunks_at_once
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
        ring = AdaptiveRing(
            ring_spec(parts.settings), rope, blocks=blocks, compiled=parts.compiled, references=reserved, **sizes
        )
        text = TextMemory(parts.model.blocks).reserve(blocks * batch, backbone.text_len, parts.dtype, parts.device)
        return cls(ring, text, None if references is None else ReferenceSlots(references, rope, **sizes))

    def rows(self, block: int, count: int = 1) -> slice:
        """The batch rows of some blocks."""
        return slice(block * self.ring.batch, (block + count) * self.ring.batch)

    def tensors(self) -> Mapping[str, Tensor]:
        slots = {} if self.slots is None else self.slots.tensors()
        return {**self.ring.tensors(), **self.text.tensors(), **slots}

    def positions(self, row: int = 0) -> Sequence[int]:
        """Of the first layer, in the block of the last step: layers may give up slots in another order."""
        last = len(self.prompts) - 1
        return tuple(self.ring.held[0, last * self.ring.batch + row].tolist())

    def snapshot(self) -> Any:
        slots = None if self.slots is None else self.slots.snapshot()
        return self.ring.snapshot(), self.text.snapshot(), list(self.prompts), slots

    def restore(self, snapshot: Any) -> None:
        ring, text, prompts, slots = snapshot
        self.ring.restore(ring)
        self.text.restore(text)
        self.prompts = list(prompts)
        if self.slots is not None:
            self.slots.restore(slots)

    def reset(self) -> None:
        self.ring.reset()
        self.text.reset()
        self.prompts = [None] * len(self.prompts)
        if self.slots is not None:
            self.slots.reset()


def ring_spec(settings: StreamDiffusionSettings) -> RingSpec:
    """The settings' memory as a ring."""
    return RingSpec(
        slots=settings.slots,
        sink=settings.sink,
        threshold=settings.sink_threshold,
        ends=ring_ends(settings),
        official=settings.official_quirks,
        steps=1 if settings.stream_batch else len(settings.denoising_steps),
    )
