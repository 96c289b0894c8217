"""The loop of the batched reference pipeline: each step has a memory of its own, so a chunk does not depend on those
that run beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vace_adapt.cache.ring import LayerCache, SlotLayer
from vace_adapt.cache.text import TextLayer, TextMemory
from vace_adapt.contract import BlockInputs, Chunk, Hints, HintSource, PipelineParts, SlotReferences, Stream
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt_conformance.batched.memory import BatchedMemory, Beside


@dataclass
class Work:
    """A chunk that is being denoised.

    Attributes:
        chunk: what core gave.
        prompt: number of its prompt.
        noisy: [B, C, F, h, w] before the next step.
        step: number of the next step.
    """

    chunk: Chunk
    prompt: int
    noisy: Tensor
    step: int = 0


class BatchedLoop:
    """One stream: the model, its memory, the chunks at work, oldest first."""

    def __init__(self, parts: PipelineParts, memory: BatchedMemory) -> None:
        settings = parts.settings
        self.model = parts.model
        self.memory = memory
        self.schedule = FewStepSchedule(settings.denoising_steps, shift=settings.shift, warp=False, device=parts.device)
        self.prompt = 0
        self.flight: list[Work] = []

    def begin(self, chunk: Chunk) -> None:
        """Take one more chunk to work."""
        self.prompt += chunk.prompt_changed
        self.flight.append(Work(chunk, self.prompt, chunk.noise(0)))

    def advance(self) -> Tensor | None:
        """One step for every chunk; finished latents [B, C, F, h, w] of the oldest, if it has no more."""
        for work in self.flight:
            self.set_prompt(work)
        sources = [self.source(work) for work in self.flight]
        flow = self.flow(self.flight, sources)
        finished = [self.after(work, own) for work, own in zip(self.flight, flow, strict=True)]
        self.flight = [work for work in self.flight if work.step < len(self.schedule)]
        return finished[0]

    def set_prompt(self, work: Work) -> None:
        """Let the memory of a chunk's step have its prompt."""
        if self.memory.prompts[work.step] != work.prompt:
            self.memory.texts[work.step].write(self.model.embed_text(work.chunk.text))
            self.memory.prompts[work.step] = work.prompt

    def source(self, work: Work) -> HintSource | None:
        """Hints of a chunk's next step."""
        return work.chunk.denoising(work.step, self.schedule.sigmas[work.step])

    def flow(self, group: Sequence[Work], sources: Sequence[HintSource | None]) -> tuple[Tensor, ...]:
        """The flow of every chunk, in one pass."""
        memory, rings = self.memory, [self.memory.rings[work.step] for work in group]
        seen = [None if source is None else source.references for source in sources]
        made = [None if one is None else self.made_of(work, one) for work, one in zip(group, seen, strict=True)]
        passes = [
            ring.chunk_pass(work.chunk.start, work.chunk.frames, 0 if one is None else one.count)
            for ring, work, one in zip(rings, group, seen, strict=True)
        ]

        def layer(index: int) -> Beside:
            each = zip(rings, passes, made, strict=True)
            return Beside(
                tuple(ring.layer(index, step, None if one is None else one(index)) for ring, step, one in each)
            )

        flow: Tensor = self.model(
            torch.cat([work.noisy for work in group]),
            self.timesteps(group),
            beside([memory.texts[work.step] for work in group]),
            layer,
            together(sources),
        )
        return flow.chunk(len(group))

    def timesteps(self, group: Sequence[Work]) -> Tensor:
        """Float32 [R]."""
        return torch.cat([self.schedule.tensor(self.schedule.timesteps[w.step], len(w.noisy)) for w in group])

    def after(self, work: Work, flow: Tensor) -> Tensor | None:
        """Noise a chunk's estimate for its next step; or give it back where there is none."""
        schedule, chunk = self.schedule, work.chunk
        clean = chunk.keep(schedule.clean(work.noisy, flow, schedule.sigmas[work.step]))
        work.step += 1
        if work.step == len(schedule):
            return clean
        work.noisy = schedule.renoise(clean, chunk.noise(work.step), schedule.sigmas[work.step])
        return None

    def made_of(self, work: Work, references: SlotReferences) -> Callable[[int], SlotLayer]:
        """Keys and values that each block makes of a chunk's references; the base runs over them only if new."""
        assert self.memory.slots is not None

        def run(layers: Callable[[int], LayerCache]) -> None:
            text = self.memory.texts[work.step]
            self.model(references.latents(), self.timesteps([work]), text, layers, references.hints)

        return self.memory.slots.take(references, work.prompt, run)


def beside(texts: Sequence[TextMemory]) -> tuple[TextLayer, ...]:
    """The prompts of chunks that stand beside each other, for every block."""
    each = [text.rows(slice(None)) for text in texts]
    return tuple(TextLayer(*map(torch.cat, zip(*layers, strict=True))) for layers in zip(*each, strict=True))


def together(sources: Sequence[HintSource | None]) -> HintSource | None:
    """The hints of several chunks for one pass: each is asked with its own rows. None where none has any."""
    if all(source is None for source in sources):
        return None

    def hints(inputs: BlockInputs) -> Hints:
        each = zip(*(t.chunk(len(sources)) for t in (inputs.hidden, inputs.modulation, inputs.text)), strict=True)
        found = [source(BlockInputs(*rows)) if source else {} for source, rows in zip(sources, each, strict=True)]
        nothing = torch.zeros_like(inputs.hidden.chunk(len(sources))[0])
        layers = sorted({layer for own in found for layer in own})
        return {layer: torch.cat([own.get(layer, nothing) for own in found]) for layer in layers}

    return HintSource(hints)


def run_stream(parts: PipelineParts, stream: Stream) -> Generator[Tensor]:
    """Every chunk of a stream, in order (`vace_stream`); one more begins in each pass, where one waits."""
    loop, chunks = BatchedLoop(parts, stream.cache), stream.chunks()
    while True:
        if stream.waiting or not loop.flight:
            chunk = next(chunks, None)
            if chunk is None:
                return
            loop.begin(chunk)
        finished = loop.advance()
        if finished is not None:
            yield finished
