"""What a StreamDiffusionV2 stream remembers: keys and values, and the prompts of the chunks at work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.text import TextMemory
from vace_adapt.contract import CacheLayout, ChunkShapes, PipelineParts
from vace_adapt_streamdiffusion.ring import AdaptiveRing, RingSpec
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings, ring_ends


class StreamDiffusionCache:
    """`CacheOps` of the native model: a ring of keys and values, and text keys and values. In a stream batch each has a
    block of rows for every denoise step.

    Attributes:
        prompts: number of the prompt that each block of rows holds.
    """

    def __init__(self, ring: AdaptiveRing, text: TextMemory) -> None:
        self.ring = ring
        self.text = text
        self.prompts: list[int | None] = [None] * (ring.keys.shape[1] // ring.batch)
        self.layout = CacheLayout("ring", ring.spec.slots, ring.spec.sink, refreshed=ring.spec.threshold > -1)

    @classmethod
    def open(cls, parts: PipelineParts, shapes: ChunkShapes, batch: int) -> StreamDiffusionCache:
        """Allocate the memory of one stream."""
        settings, backbone = parts.settings, parts.backbone
        blocks = parts.chunks_at_once
        ring = AdaptiveRing(
            ring_spec(settings),
            RotaryGrid(backbone.head_dim, shapes.grid, parts.device),
            layers=backbone.layers,
            batch=batch,
            blocks=blocks,
            heads=backbone.heads,
            head_dim=backbone.head_dim,
            dtype=parts.dtype,
            device=parts.device,
            compiled=parts.compiled,
        )
        text = TextMemory(parts.model.blocks)
        return cls(ring, text.reserve(blocks * batch, backbone.text_len, parts.dtype, parts.device))

    def rows(self, block: int, count: int = 1) -> slice:
        """The batch rows of some blocks."""
        return slice(block * self.ring.batch, (block + count) * self.ring.batch)

    def tensors(self) -> Mapping[str, Tensor]:
        return {**self.ring.tensors(), **self.text.tensors()}

    def positions(self, row: int = 0) -> Sequence[int]:
        """Of the first layer, in the block of the last step: layers may give up slots in another order."""
        last = len(self.prompts) - 1
        return tuple(self.ring.held[0, last * self.ring.batch + row].tolist())

    def snapshot(self) -> Any:
        return self.ring.snapshot(), self.text.snapshot(), list(self.prompts)

    def restore(self, snapshot: Any) -> None:
        ring, text, prompts = snapshot
        self.ring.restore(ring)
        self.text.restore(text)
        self.prompts = list(prompts)

    def reset(self) -> None:
        self.ring.reset()
        self.text.reset()
        self.prompts = [None] * len(self.prompts)


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
