"""The loop of the reference pipeline: denoise steps, then a clean pass that writes the cache."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial

from torch import Tensor

from vace_adapt.cache.ring import LayerCache, SlotLayer
from vace_adapt.contract import Chunk, HintSource, PipelineParts, SlotReferences, Stream
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt_conformance.reference.memory import Memory


class Loop:
    """One stream: the model, its memory, its denoise steps."""

    def __init__(self, parts: PipelineParts, memory: Memory) -> None:
        settings = parts.settings
        self.model = parts.model
        self.memory = memory
        self.context_noise = settings.context_noise
        self.schedule = FewStepSchedule(settings.denoising_steps, shift=settings.shift, warp=False, device=parts.device)

    def switch(self, chunk: Chunk) -> None:
        """Take over the chunk's prompt; past the first chunk, rewrite the cache under it, all but the sink."""
        self.memory.text.write(self.model.embed_text(chunk.text))
        if chunk.start > 0:
            self.recache(chunk.recaching())

    def recache(self, hints: HintSource | None) -> None:
        """Run once over the newest frames at context noise."""
        start, latents = self.memory.recent.newest()
        step = self.memory.ring.recache_pass(start, latents.shape[2], keep_sink=True)
        self.run(latents, self.context_noise, partial(self.memory.ring.layer, step=step), hints)

    def rebuild(self, row: int, latents: Tensor) -> None:
        """Make one row's memory that of a stream of these latents [1, C, n, h, w] alone."""
        start = self.memory.recent.replace(row, latents)
        step = self.memory.ring.recache_pass(start, latents.shape[2], keep_sink=False, batch_row=row)
        layers = partial(self.memory.ring.layer, step=step, batch_row=row)
        timestep = self.schedule.tensor(self.context_noise, 1)
        self.model(latents, timestep, self.memory.text.row(row), layers)

    def make(self, chunk: Chunk) -> Tensor:
        """Finished latents [B, C, F, h, w] of a chunk."""
        schedule = self.schedule
        noisy = chunk.noise(0)
        for step, (timestep, sigma) in enumerate(zip(schedule.timesteps, schedule.sigmas, strict=True)):
            flow = self.flow(noisy, timestep, chunk.start, chunk.denoising(step, sigma))
            clean = chunk.keep(schedule.clean(noisy, flow, sigma))
            if step + 1 < len(schedule):
                noisy = schedule.renoise(clean, chunk.noise(step + 1), schedule.sigmas[step + 1])
        self.finish(clean, chunk)
        return clean

    def finish(self, clean: Tensor, chunk: Chunk) -> None:
        """The clean pass, which leaves the chunk's keys and values in the cache."""
        self.flow(clean, self.context_noise, chunk.start, chunk.clean_pass(self.schedule.sigma(self.context_noise)))
        self.memory.recent.push(clean)

    def flow(self, latents: Tensor, timestep: float, start: int, hints: HintSource | None) -> Tensor:
        """The flow of a chunk that starts at latent frame `start`; writes its keys and values."""
        ring, frames = self.memory.ring, latents.shape[2]
        references = None if hints is None else hints.references
        if references is None:
            return self.run(latents, timestep, partial(ring.layer, step=ring.chunk_pass(start, frames)), hints)
        made = self.made_of(references, timestep)
        step = ring.chunk_pass(start, frames, references.count)
        return self.run(latents, timestep, lambda layer: ring.layer(layer, step, made(layer)), hints)

    def made_of(self, references: SlotReferences, timestep: float) -> Callable[[int], SlotLayer]:
        """Keys and values that each block makes of the references; the base runs over them only if they are new."""

        def run(layers: Callable[[int], LayerCache]) -> None:
            self.run(references.latents(), timestep, layers, references.hints)

        assert self.memory.slots is not None
        return self.memory.slots.take(references, self.memory.text.version, run)

    def run(self, latents, timestep, layers, hints) -> Tensor:
        """One call of the model."""
        return self.model(latents, self.schedule.tensor(timestep, latents.shape[0]), self.memory.text, layers, hints)


def run_stream(parts: PipelineParts, stream: Stream) -> Generator[Tensor]:
    """Every chunk of a stream, one after another (`vace_stream`)."""
    loop = Loop(parts, stream.cache)
    for chunk in stream.chunks():
        if chunk.prompt_changed:
            loop.switch(chunk)
        for row, latents in chunk.reanchor.items():
            loop.rebuild(row, latents)
        yield loop.make(chunk)
