"""One chunk: as the plugin's loop sees it, and as the caller gets it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vace_adapt.context.chunk import ChunkContext
from vace_adapt.contract import ChunkReport, ChunkShapes, HintSource, PipelineParts
from vace_adapt.errors import SessionError
from vace_adapt.streaming.noise import draw

CLEAN_PASS = -1
"""Number of the clean pass where passes of a chunk are counted."""


@dataclass(frozen=True)
class StreamedChunk:
    """What a stream yields.

    Attributes:
        frames: uint8 [B, T, H, W, 3] on the CPU.
        latents: [B, C, F, h, w] finished latents in the base's normalisation, on its device.
        report: sizes, time and memory.
    """

    frames: Tensor
    latents: Tensor
    report: ChunkReport


class SessionChunk:
    """What a plugin's loop needs of a chunk (`vace_adapt.contract.Chunk`).

    Args:
        parts: of the pipeline.
        shapes: of the stream.
        seeds: one for each batch row.
        index: chunk number.
        text: [B, T, text_dim] prompt embeddings.
        prompt_changed: whether they differ from the last chunk's.
        context: where the hints come from; None runs the chunk bare.
        hints_in_clean_pass: the KV policy.
    """

    def __init__(
        self,
        parts: PipelineParts,
        shapes: ChunkShapes,
        seeds: Sequence[int],
        index: int,
        text: Tensor,
        prompt_changed: bool,
        context: ChunkContext | None,
        hints_in_clean_pass: bool,
    ) -> None:
        self.index = index
        self.start = shapes.time.latent_start(index)
        self.frames = shapes.time.latents(index)
        self.text = text
        self.prompt_changed = prompt_changed
        self._context = context
        self._hints_in_clean_pass = hints_in_clean_pass
        self._draws = parts.draws
        shape = shapes.latent_shape(len(seeds), index)[1:]
        noise = [draw(seeds, "chunk", index * parts.draws + i, shape) for i in range(parts.draws)]
        self._noise = torch.stack(noise).to(parts.device, parts.dtype)

    def noise(self, draw: int) -> Tensor:
        if draw >= self._draws:
            raise SessionError(
                f"noise draw {draw} of chunk {self.index} was not declared: parts.draws is {self._draws}"
            )
        return self._noise[draw]

    def denoising(self, step: int, sigma: float) -> HintSource | None:
        return None if self._context is None else self._context.source(step, sigma)

    def clean_pass(self, sigma: float) -> HintSource | None:
        return self.denoising(CLEAN_PASS, sigma) if self._hints_in_clean_pass else None

    def recaching(self) -> HintSource | None:
        return None
