"""What a stream of the batched reference pipeline remembers: the same for each denoise step, and apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.ring import LayerCache, RingCache, RingSpec
from vace_adapt.cache.slots import ReferenceSlots
from vace_adapt.cache.text import TextMemory
from vace_adapt.contract import ChunkShapes, PipelineParts, ReferenceRoom


class Beside(NamedTuple):
    """One layer's memories of chunks that stand beside each other in a batch."""

    memories: tuple[LayerCache, ...]

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each chunk's rows [B, L, H, d] see its own."""
        each = zip(*(tensor.chunk(len(self.memories)) for tensor in (query, key, value)), strict=True)
        return torch.cat([memory.attend(*rows) for memory, rows in zip(self.memories, each, strict=True)])


class BatchedMemory:
    """`CacheOps`: a ring of keys and values and a prompt for each denoise step, and reference slots where some are
    reserved.

    Attributes:
        prompts: number of the prompt that each step holds.
    """

    def __init__(self, parts: PipelineParts, shapes: ChunkShapes, batch: int, references: ReferenceRoom | None) -> None:
        settings, backbone = parts.settings, parts.backbone
        steps = range(parts.draws)
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
        self.rings = [RingCache(spec, rope, **sizes, references=reserved) for _ in steps]
        self.texts = [
            TextMemory(parts.model.blocks).reserve(batch, backbone.text_len, parts.dtype, parts.device) for _ in steps
        ]
        self.prompts: list[int | None] = [None for _ in steps]
        self.slots = None if references is None else ReferenceSlots(references, rope, **sizes)
        self.layout = self.rings[0].layout

    def tensors(self) -> Mapping[str, Tensor]:
        parts: list[Any] = [*self.rings, *self.texts, *([] if self.slots is None else [self.slots])]
        return {
            f"{number}.{name}": tensor for number, part in enumerate(parts) for name, tensor in part.tensors().items()
        }

    def positions(self, row: int = 0) -> Sequence[int]:
        """Of the last step."""
        return self.rings[-1].positions(row)

    def snapshot(self) -> Any:
        slots = None if self.slots is None else self.slots.snapshot()
        steps = [(ring.snapshot(), text.snapshot()) for ring, text in zip(self.rings, self.texts, strict=True)]
        return steps, list(self.prompts), slots

    def restore(self, snapshot: Any) -> None:
        steps, prompts, slots = snapshot
        for ring, text, (held, words) in zip(self.rings, self.texts, steps, strict=True):
            ring.restore(held)
            text.restore(words)
        self.prompts = list(prompts)
        if self.slots is not None:
            self.slots.restore(slots)

    def reset(self) -> None:
        for ring, text in zip(self.rings, self.texts, strict=True):
            ring.reset()
            text.reset()
        if self.slots is not None:
            self.slots.reset()
        self.prompts = [None for _ in self.prompts]
