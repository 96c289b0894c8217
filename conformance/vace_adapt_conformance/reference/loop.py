"""The loop of the reference pipeline: denoise steps, then a clean pass that writes the cache; the frame that the next
chunk takes the place of goes into the bank.
"""

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
        memory = self.memory
        start, latents = memory.recent.newest()
        step = memory.ring.recache_pass(start, latents.shape[2], keep_sink=True, bank=memory.bank.filled)
        self.run(latents, self.context_noise, memory.layers(step), hints)

    def rebuild(self, row: int, latents: Tensor) -> None:
        """Make one row's memory that of a stream of these latents [1, C, n, h, w] alone."""
        self.memory.bank.empty(row)
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
        """The clean pass, which leaves the chunk's keys and values in the cache; then the bank takes what goes next."""
        self.flow(clean, self.context_noise, chunk.start, chunk.clean_pass(self.schedule.sigma(self.context_noise)))
        self.memory.recent.push(clean)
        spec = self.memory.ring.spec
        leaving = chunk.start + chunk.frames - (spec.slots - spec.sink)
        if leaving >= spec.sink:
            self.memory.bank.take(leaving)

    def flow(self, latents: Tensor, timestep: float, start: int, hints: HintSource | None) -> Tensor:
        """The flow of a chunk that starts at latent frame `start`; writes its keys and values."""
        memory, frames = self.memory, latents.shape[2]
        references = None if hints is None else hints.references
        made = None if references is None else self.made_of(references, timestep)
        count = 0 if references is None else references.count
        step = memory.ring.chunk_pass(start, frames, count, bank=memory.bank.filled)
        return self.run(latents, timestep, memory.layers(step, made), hints)

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
