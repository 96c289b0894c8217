"""MemFlow's loop: the bank takes in what was offered, few denoise steps, a clean pass that writes the memory; a recache
when the prompt changes.

In own words after KlingTeam/MemFlow pipeline/causal_inference.py (``inference``) and
pipeline/interactive_causal_inference.py (``inference``, ``_recache_after_switch``).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from torch import Tensor

from vace_adapt.contract import Chunk, HintSource, PipelineParts, Stream
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt_memflow.native import NativeDenoiser
from vace_adapt_memflow.official import OfficialDenoiser


class Denoiser(Protocol):
    """The base model of one stream, native or live."""

    def set_prompt(self, prompt_embeds: Tensor) -> None:
        """Use these embeddings [B, T, text_dim] from the next pass on."""
        ...

    def recall(self) -> None:
        """Let the bank take in the frame on offer, before a chunk's first pass."""
        ...

    def __call__(self, latents: Tensor, timestep: float, start: int, hints: HintSource | None) -> Tensor:
        """Predict the flow of a chunk [B, C, F, h, w] that starts at latent frame `start`; nothing of it is kept."""
        ...

    def commit(self, latents: Tensor, timestep: float, chunk: int, start: int, hints: HintSource | None) -> None:
        """The clean pass over a finished chunk: write its keys and values, offer its first frame to the bank, and keep
        it for a later recache.
        """
        ...

    def recache(self, timestep: float, *, keep_sink: bool, hints: HintSource | None) -> None:
        """Let the bank take in what is on offer, then rewrite the keys and values of all remembered frames under the
        prompt in force, in one pass.
        """
        ...

    def rebuild(self, row: int, latents: Tensor, timestep: float) -> None:
        """Remember latents [1, C, n, h, w] as the newest frames of a batch row, rewrite the row's keys and values, the
        sink's among them, from these alone, and empty its bank; see `vace_adapt.contract.Chunk.reanchor`.
        """
        ...


class MemFlowLoop:
    """Runs chunks through a denoiser.

    Args:
        denoiser: the base model of one stream.
        schedule: the denoise steps.
        context_noise: timestep of clean passes and recaches (0 for MemFlow).
    """

    def __init__(self, denoiser: Denoiser, schedule: FewStepSchedule, context_noise: float) -> None:
        self.denoiser = denoiser
        self.schedule = schedule
        self.context_noise = context_noise

    def switch_prompt(self, chunk: Chunk, *, keep_sink: bool) -> None:
        """Take over the chunk's prompt; past the first chunk, rebuild the cache under it."""
        self.denoiser.set_prompt(chunk.text)
        if chunk.start > 0:
            self.denoiser.recache(self.context_noise, keep_sink=keep_sink, hints=chunk.recaching())

    def reanchor(self, chunk: Chunk) -> None:
        """Rebuild the memory of the rows core chose: each in a pass of its own, so that no row changes with another."""
        for row, latents in chunk.reanchor.items():
            self.denoiser.rebuild(row, latents, self.context_noise)

    def run(self, chunk: Chunk) -> Tensor:
        """Make one chunk: finished latents [B, C, F, h, w]."""
        schedule = self.schedule
        self.denoiser.recall()
        noisy = chunk.noise(0)
        for step, (timestep, sigma) in enumerate(zip(schedule.timesteps, schedule.sigmas, strict=True)):
            flow = self.denoiser(noisy, timestep, chunk.start, chunk.denoising(step, sigma))
            clean = chunk.keep(schedule.clean(noisy, flow, sigma))
            if step + 1 < len(schedule):
                noisy = schedule.renoise(clean, chunk.noise(step + 1), schedule.sigmas[step + 1])
        hints = chunk.clean_pass(schedule.sigma(self.context_noise))
        self.denoiser.commit(clean, self.context_noise, chunk.index, chunk.start, hints)
        return clean


def run_stream(parts: PipelineParts, stream: Stream) -> Generator[Tensor]:
    """Every chunk of a stream, one after another (`vace_stream`)."""
    settings = parts.settings
    schedule = FewStepSchedule(
        settings.denoising_steps,
        shift=settings.timestep_shift,
        warp=settings.warp_denoising_steps,
        device=parts.device,
    )
    denoiser: Denoiser
    if parts.layout == "official":
        denoiser = OfficialDenoiser(parts.model, schedule, stream, settings)
    else:
        denoiser = NativeDenoiser(parts.model, schedule, stream.cache, quirks=settings.official_quirks)
    loop = MemFlowLoop(denoiser, schedule, settings.context_noise)
    for chunk in stream.chunks():
        if chunk.prompt_changed:
            loop.switch_prompt(chunk, keep_sink=settings.global_sink)
        loop.reanchor(chunk)
        yield loop.run(chunk)
