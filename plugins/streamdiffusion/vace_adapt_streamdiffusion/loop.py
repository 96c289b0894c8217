"""StreamDiffusionV2's loop: few denoise steps per chunk, no clean pass; in a stream batch the steps of several chunks
in one pass.

In own words after chenfengxu714/StreamDiffusionV2 models/wan/causal_stream_inference.py (``prepare``,
``inference_stream``, ``inference_wo_batch``). Every block of rows has a memory of its own, which only the chunks at its
step write and see. So what becomes of a chunk does not depend on which chunks run beside it: the batch is a matter of
speed, and a chunk for which none waits behind it runs alone. The official loop starts the next one in any case, and
hands a chunk out so many calls later.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vace_adapt.contract import BlockInputs, Chunk, Hints, HintSource, Level, PipelineParts, SlotReferences, Stream
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt_streamdiffusion.native import NativeDenoiser
from vace_adapt_streamdiffusion.official import OfficialDenoiser
from vace_adapt_streamdiffusion.plan import Use
from vace_adapt_streamdiffusion.positions import Positions
from vace_adapt_streamdiffusion.start import Start, Starts
from vace_adapt_streamdiffusion.warm_up import WarmUp


class Denoiser(Protocol):
    """The base model of one stream, native or live."""

    def set_prompt(self, block: int, number: int, prompt_embeds: Tensor) -> None:
        """Let a block of rows have these embeddings [B, T, text_dim], of prompt `number`; it may have them already."""
        ...

    def __call__(
        self,
        latents: Tensor,
        timesteps: Tensor,
        block: int,
        uses: Sequence[Use],
        hints: HintSource | None,
        references: Sequence[SlotReferences | None],
    ) -> Tensor:
        """Predict the flow of chunks [R, C, F, h, w] in neighbouring blocks of rows, the first being number `block`,
        each with the references that its self-attention sees.
        """
        ...

    def spread(self) -> None:
        """Let every block of rows remember what the first one does."""
        ...

    def rebuild(self, row: int, latents: Tensor, start: int, position: int) -> None:
        """Let a row of the stream remember clean latents [1, C, n, h, w] alone, in every block, under the prompt of the
        first; they are the frames from `start` on, at temporal positions from `position` on.
        """
        ...


@dataclass
class Work:
    """A chunk that is being denoised.

    Attributes:
        chunk: what core gave.
        prompt: number of its prompt.
        noisy: [B, C, F, h, w] before the next step.
        timesteps: of the first step, by row.
        step: number of the next step.
    """

    chunk: Chunk
    prompt: int
    noisy: Tensor
    timesteps: tuple[float, ...]
    step: int = 0


class StreamDiffusionLoop:
    """Runs chunks through a denoiser.

    Args:
        denoiser: the base model of one stream.
        schedule: the denoise steps.
        starts: what a chunk starts from.
        positions: temporal positions of chunks.
        warm_up: makes what runs, officially, in the blocks of rows that have no chunk yet, from chunk 1 and a number
            that is at most 0; None lets them wait.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: FewStepSchedule,
        starts: Callable[[Chunk], Start],
        positions: Positions,
        *,
        warm_up: Callable[[Chunk, int], Chunk] | None,
    ) -> None:
        self._denoiser = denoiser
        self._schedule = schedule
        self._starts = starts
        self._positions = positions
        self._warm_up = warm_up
        self._prompt = 0
        self._flight: list[Work] = []

    # --- without stream batch -----------------------------------------------------------------------------------------

    def run(self, chunk: Chunk) -> Tensor:
        """Make one chunk in the first block of rows, step by step: finished latents [B, C, F, h, w]."""
        work = self._work(chunk)
        while (finished := self._pass([work], 0)[0]) is None:
            pass
        return finished

    # --- stream batch -------------------------------------------------------------------------------------------------

    def first(self, chunk: Chunk) -> Tensor:
        """Make chunk 0, and let all blocks of rows begin with what it has left."""
        finished = self.run(chunk)
        self._denoiser.spread()
        return finished

    def stream(self, chunks: Iterator[Chunk], waiting: Callable[[], int]) -> Generator[Tensor]:
        """Make the chunks behind chunk 0: one more in each pass, where one waits."""
        while True:
            if waiting() or not any(work.chunk.index > 0 for work in self._flight):
                chunk = next(chunks, None)
                if chunk is None:
                    return
                if chunk.index == 1 and self._warm_up is not None:
                    self._flight = self._warming(chunk, self._warm_up)
                self._flight.append(self._work(chunk))
            finished = self.advance()
            if finished is not None:
                yield finished

    def advance(self) -> Tensor | None:
        """One step for every chunk at work; the latents of the one that is finished, if one is."""
        done: Tensor | None = None
        for group in neighbours(self._flight):
            oldest = self._pass(group, group[0].step)[-1]
            if oldest is not None and group[-1].chunk.index > 0:
                done = oldest
        self._flight = [work for work in self._flight if work.step < len(self._schedule)]
        return done

    def _warming(self, chunk: Chunk, make: Callable[[Chunk, int], Chunk]) -> list[Work]:
        """What is noised step by step in the blocks of rows that no chunk has reached: zeros at first."""
        nothing = torch.zeros_like(chunk.noise(0))
        steps = range(len(self._schedule) - 1, 0, -1)
        return [Work(make(chunk, 1 - step), self._prompt, nothing, (), step) for step in steps]

    # --- one pass -----------------------------------------------------------------------------------------------------

    def _work(self, chunk: Chunk) -> Work:
        self._prompt += chunk.prompt_changed
        if chunk.reanchor:
            self._rebuild(chunk)
        start = self._starts(chunk)
        return Work(chunk, self._prompt, start.latents, start.timesteps)

    def _rebuild(self, chunk: Chunk) -> None:
        """Rebuild the memory of some rows before a chunk, at the positions from which it falls with the others'."""
        position, fall = self._positions(chunk.start)
        self._denoiser.set_prompt(0, self._prompt, chunk.text)
        for row, latents in chunk.reanchor.items():
            frames = latents.shape[2]
            self._denoiser.rebuild(row, latents, chunk.start - frames, max(0, position + fall - frames))

    def _pass(self, group: Sequence[Work], block: int) -> list[Tensor | None]:
        """One step for each chunk, in neighbouring blocks of rows; the finished latents of those that have no more."""
        timesteps = [self._timesteps(work) for work in group]
        sigmas = [[self._schedule.sigma(timestep) for timestep in each] for each in timesteps]
        for number, work in enumerate(group, block):
            self._denoiser.set_prompt(number, work.prompt, work.chunk.text)
        sources = [work.chunk.denoising(work.step, level(own)) for work, own in zip(group, sigmas, strict=True)]
        noisy = torch.cat([work.noisy for work in group])
        references = [None if source is None else source.references for source in sources]
        uses = [
            self._use(work, number, 0 if seen is None else seen.count)
            for number, (work, seen) in enumerate(zip(group, references, strict=True), block)
        ]
        flow = self._denoiser(noisy, _rows(timesteps, noisy), block, uses, together(sources), references)
        clean = self._schedule.clean(noisy, flow, _rows(sigmas, noisy).view(-1, 1, 1, 1, 1))
        return [self._after(work, own) for work, own in zip(group, clean.chunk(len(group)), strict=True)]

    def _after(self, work: Work, clean: Tensor) -> Tensor | None:
        """Noise an estimate for the chunk's next step; or give it back where there is none."""
        schedule, chunk = self._schedule, work.chunk
        clean = chunk.keep(clean)
        work.step += 1
        if work.step == len(schedule):
            return clean
        work.noisy = schedule.renoise(clean, chunk.noise(work.step), schedule.sigmas[work.step])
        return None

    def _timesteps(self, work: Work) -> tuple[float, ...]:
        rows = work.noisy.shape[0]
        return work.timesteps if work.step == 0 else (self._schedule.timesteps[work.step],) * rows

    def _use(self, work: Work, block: int, references: int) -> Use:
        start, frames = work.chunk.start, work.chunk.frames
        return Use(start, frames, *self._positions(start), first=block == work.step, references=references)


def neighbours(flight: Sequence[Work]) -> list[list[Work]]:
    """Chunks at neighbouring steps, those of the earliest step first."""
    groups: list[list[Work]] = []
    for work in sorted(flight, key=lambda work: work.step):
        if groups and groups[-1][-1].step == work.step - 1:
            groups[-1].append(work)
        else:
            groups.append([work])
    return groups


def level(sigmas: Sequence[float]) -> Level:
    """One number where all rows have it."""
    return sigmas[0] if len(set(sigmas)) == 1 else tuple(sigmas)


def together(sources: Sequence[HintSource | None]) -> HintSource | None:
    """The hints of several chunks for one pass: each is asked with its own rows. None where none has any."""
    if len(sources) == 1:
        return sources[0]
    if all(source is None for source in sources):
        return None

    def hints(inputs: BlockInputs) -> Hints:
        each = (tensor.chunk(len(sources)) for tensor in (inputs.hidden, inputs.modulation, inputs.text))
        asked = zip(sources, zip(*each, strict=True), strict=True)
        found = [{} if source is None else source(BlockInputs(*rows)) for source, rows in asked]
        nothing = torch.zeros_like(inputs.hidden[: inputs.hidden.shape[0] // len(sources)])
        layers = sorted({layer for own in found for layer in own})
        return {layer: torch.cat([own.get(layer, nothing) for own in found]) for layer in layers}

    return HintSource(hints)


def _rows(numbers: Sequence[Sequence[float]], like: Tensor) -> Tensor:
    """A number for each row of each chunk, float32 [R]; made on the device where all are equal."""
    each = [number for own in numbers for number in own]
    if len(set(each)) == 1:
        return torch.full((len(each),), each[0], dtype=torch.float32, device=like.device)
    return torch.tensor(each, dtype=torch.float32).to(like.device)


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
        denoiser = OfficialDenoiser(parts.model, stream, settings)
    else:
        denoiser = NativeDenoiser(parts.model, stream.cache)
    loop = StreamDiffusionLoop(
        denoiser,
        schedule,
        Starts(settings, schedule.timesteps[0], stream.batch),
        Positions.of(settings),
        warm_up=WarmUp if settings.official_quirks else None,
    )
    chunks = stream.chunks()
    if not settings.stream_batch:
        for chunk in chunks:
            yield loop.run(chunk)
        return
    for chunk in chunks:
        yield loop.first(chunk)
        break
    yield from loop.stream(chunks, lambda: stream.waiting)
