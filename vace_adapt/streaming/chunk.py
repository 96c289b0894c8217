"""One chunk: as the plugin's loop sees it, and as the caller gets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vace_adapt.context.chunk import ChunkContext
from vace_adapt.contract import ChunkReport, ChunkShapes, HintSource, Level, PipelineParts, SourceVideo
from vace_adapt.errors import SessionError
from vace_adapt.streaming.noise import draw
from vace_adapt.streaming.preserving import Kept

CLEAN_PASS = -1
"""Number of the clean pass where passes of a chunk are counted; its hints are scaled as those of the last step."""


@dataclass(frozen=True)
class StreamedChunk:
    """What a stream yields.

    Attributes:
        frames: uint8 [B, T, H, W, 3] on the CPU.
        latents: [B, C, F, h, w] finished latents in the base's normalisation, on its device.
        report: sizes, time and memory.
        control: what VACE was shown, uint8 [B, T, H, W, 3] on the CPU; None for nothing.
        mask: its mask, uint8 [B, T, H, W], 255 = generate; None for all of it.
    """

    frames: Tensor
    latents: Tensor
    report: ChunkReport
    control: Tensor | None = None
    mask: Tensor | None = None


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
        kept: what must be kept of its latents; None for nothing.
        reanchor: what the memory is rebuilt from before it, by batch row.
        hints_in_clean_pass: the KV policy.
        video: what was fed for it, for a base that starts from it.
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
        kept: Kept | None,
        reanchor: Mapping[int, Tensor],
        hints_in_clean_pass: bool,
        video: SourceVideo | None = None,
    ) -> None:
        self.index = index
        self.start = shapes.time.latent_start(index)
        self.frames = shapes.time.latents(index)
        self.text = text
        self.prompt_changed = prompt_changed
        self.reanchor = reanchor
        self.video = video
        self._context = context
        self._kept = kept
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

    def denoising(self, step: int, sigma: Level) -> HintSource | None:
        return None if self._context is None else self._context.source(step, sigma)

    def unconditional(self, step: int, sigma: Level) -> HintSource | None:
        return None if self._context is None else self._context.source(step, sigma, negative=True)

    def keep(self, latents: Tensor) -> Tensor:
        return latents if self._kept is None else self._kept.into(latents)

    def clean_pass(self, sigma: float) -> HintSource | None:
        return self.denoising(CLEAN_PASS, sigma) if self._hints_in_clean_pass else None

    def recaching(self) -> HintSource | None:
        return None
