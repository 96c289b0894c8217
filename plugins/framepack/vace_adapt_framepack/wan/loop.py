"""Helios' loop: sections one after another, each denoised from noise beside the packed history.

In own words after diffusers pipelines/helios/pipeline_helios.py (``HeliosPipeline.__call__``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol

import torch
from torch import Tensor

from vace_adapt.contract import Chunk, HintSource, PipelineParts, Stream
from vace_adapt_framepack.history import Packed, PackedHistory
from vace_adapt_framepack.plan import forward_layout
from vace_adapt_framepack.solver import FlowSolver, helios_solver
from vace_adapt_framepack.wan.model import HeliosDenoiser


class Denoiser(Protocol):
    """The base model of one stream; see `HeliosDenoiser`."""

    def __call__(
        self, noisy: Tensor, timestep: Tensor, text: Tensor, packed: Packed, hints: HintSource | None
    ) -> Tensor: ...


class HeliosLoop:
    """Makes sections.

    Args:
        denoiser: the base model.
        solver: its steps.
        history: what the sections see of those before.
        guidance: scale of classifier-free guidance; 1 leaves it out.
        negative: makes the embeddings [B, T, text_dim] of the negative prompt; called only where there is guidance.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        solver: FlowSolver,
        history: PackedHistory,
        guidance: float,
        negative: Callable[[], Tensor],
    ) -> None:
        self._denoiser = denoiser
        self._solver = solver
        self._history = history
        self._guidance = guidance
        self._negative = negative() if guidance > 1 else None

    def run(self, chunk: Chunk) -> Tensor:
        """Make one section: finished latents [B, C, F, h, w]."""
        if self._history.end == 0:
            self._history.begin()
        packed = self._history.pack()
        noise = chunk.noise(0)
        noisy = noise.float()
        self._solver.begin()
        for step, (timestep, sigma) in enumerate(self._solver.levels):
            flow = self._flow(chunk, step, sigma, noisy.to(noise.dtype), timestep, packed)
            noisy = self._solver.step(step, keeping(chunk.keep, noisy, flow, sigma), noisy)
        finished = chunk.keep(noisy.to(noise.dtype))
        if self._history.end == 0:
            self._history.keep_start(finished[:, :, :1])
        self._history.push(finished)
        return finished

    def _flow(self, chunk: Chunk, step: int, sigma: float, noisy: Tensor, timestep: float, packed: Packed) -> Tensor:
        """The flow of a step, guided."""
        time = torch.full((noisy.shape[0],), timestep, dtype=torch.float32, device=noisy.device)
        flow = self._denoiser(noisy, time, chunk.text, packed, chunk.denoising(step, sigma))
        if self._negative is None:
            return flow
        without = self._denoiser(noisy, time, self._negative, packed, chunk.unconditional(step, sigma))
        return without + self._guidance * (flow - without)


def keeping(keep: Callable[[Tensor], Tensor], noisy: Tensor, flow: Tensor, sigma: float) -> Tensor:
    """The flow, changed so that it leads to what must be kept (`vace_adapt.contract.Chunk.keep`)."""
    clean = noisy - sigma * flow
    kept = keep(clean)
    return flow if kept is clean else (noisy - kept) / sigma


def run_stream(parts: PipelineParts, stream: Stream) -> Generator[Tensor]:
    """Every section of a stream, one after another (`vace_stream`)."""
    settings, shapes = parts.settings, stream.shapes
    solver = helios_solver(
        parts.steps,
        settings.chunk_latents * shapes.frame_tokens,
        kind=settings.solver,
        dynamic_shift=settings.dynamic_shift,
        time_shift=settings.time_shift,
    )
    layout = forward_layout(settings.chunk_latents, settings.history)

    def negative() -> Tensor:
        embeds = parts.text_encoder([settings.negative_prompt] * stream.batch)
        return embeds.to(parts.device, parts.dtype)

    denoiser = HeliosDenoiser(parts.model, stream.injecting, layout, parts.device)
    loop = HeliosLoop(denoiser, solver, stream.cache, settings.guidance_scale, negative)
    for chunk in stream.chunks():
        yield loop.run(chunk)
