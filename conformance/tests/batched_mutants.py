"""One mutant of the batched reference pipeline for each check of the group ``stream batch``, as in `mutants`."""

from __future__ import annotations

import types
from typing import Any

import mutants
import torch

from vace_adapt.contract import HintSource
from vace_adapt_conformance.batched import loop as loop_module
from vace_adapt_conformance.batched import plugin as batched
from vace_adapt_conformance.batched.loop import BatchedLoop
from vace_adapt_conformance.subject import Subject


class Bench(mutants.Bench):
    """Where the batched reference pipeline is broken."""

    def __init__(self, monkeypatch: Any, folder: Any) -> None:
        super().__init__(monkeypatch, folder)
        self.module = batched.__name__
        self.hooks = {hook: getattr(batched, hook) for hook in self.hooks}

    def subject(self) -> Subject:
        return Subject("batched", types.SimpleNamespace(**self.hooks), "a mutant", module=self.module)


class OneAtATime:
    """A stream that says of no chunk that it waits."""

    waiting = 0

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def chunks_are_made_together(bench):
    @bench.hook
    def vace_stream(parts, stream):
        return loop_module.run_stream(parts, OneAtATime(stream))


def a_chunk_beside_others_is_the_same(bench):
    """Where a stream has several rows, all chunks of a pass are at the timestep of the first."""

    def timesteps(real):
        def of_the_first(self, group):
            found = real(self, group)
            return found if len(group[0].noisy) == 1 else found[:1].expand(len(found))

        return of_the_first

    bench.patch(BatchedLoop, "timesteps", timesteps)


def what_runs_beside_it_changes_no_bit(bench):
    """By less than a tolerance would notice."""

    def flow(real):
        def mixed(self, group, sources):
            found = real(self, group, sources)
            return tuple(own + 1e-7 * sum(found) for own in found)

        return mixed

    bench.patch(BatchedLoop, "flow", flow)


def every_chunk_is_asked_at_its_own_step(bench):
    """It is asked at the level of the oldest."""

    def source(real):
        def of_the_oldest(self, work):
            return work.chunk.denoising(work.step, self.schedule.sigmas[self.flight[0].step])

        return of_the_oldest

    bench.patch(BatchedLoop, "source", source)


def hints_reach_their_own_rows(bench):
    """They are added to those of the chunk beside it."""

    def together(real):
        def rolled(sources):
            found = real(sources)
            if found is None or len(sources) == 1:
                return found
            return HintSource(
                lambda inputs: {
                    layer: hint.roll(len(hint) // len(sources), 0) for layer, hint in found.hints(inputs).items()
                }
            )

        return rolled

    bench.patch(loop_module, "together", together)


def estimates_stay_with_their_chunks(bench):
    """They go through what the oldest chunk keeps."""

    def after(real):
        def kept_by_the_oldest(self, work, flow):
            oldest = self.flight[0].chunk
            work.chunk = mutants.Proxy(work.chunk, {"keep": lambda chunk, latents: oldest.keep(latents)})
            return real(self, work, flow)

        return kept_by_the_oldest

    bench.patch(BatchedLoop, "after", after)


def a_prompt_holds_in_its_own_rows(bench):
    """A new prompt is every chunk's at once."""

    def begin(real):
        def for_all(self, chunk):
            real(self, chunk)
            for work in self.flight:
                work.prompt = self.prompt
                work.chunk = mutants._with_text(work.chunk, chunk.text)

        return for_all

    bench.patch(BatchedLoop, "begin", begin)


def references_stay_with_their_chunks(bench):
    """All chunks see those of the newest."""

    def flow(real):
        def of_the_newest(self, group, sources):
            newest = sources[-1] and sources[-1].references
            changed = [source and HintSource(source.hints, newest) for source in sources]
            return real(self, group, changed)

        return of_the_newest

    bench.patch(BatchedLoop, "flow", flow)


def the_memory_of_a_batch_is_fixed(bench):
    """Text tokens move where chunks stand beside each other."""

    def flow(real):
        def moving(self, group, sources):
            found = real(self, group, sources)
            if len(group) > 1:
                self.memory.texts[0] = type(self.memory.texts[0])(self.model.blocks)
                self.memory.prompts[0] = None
            return found

        return moving

    bench.patch(BatchedLoop, "flow", flow)


def a_stopped_batch_leaves_nothing(bench):
    """Where several chunks were at work when the stream was stopped."""

    @bench.hook
    def vace_stream(parts, stream):
        left = parts.model.__dict__.pop("left", 0.0)
        loop, chunks = loop_module.BatchedLoop(parts, stream.cache), stream.chunks()
        try:
            while True:
                if stream.waiting or not loop.flight:
                    chunk = next(chunks, None)
                    if chunk is None:
                        return
                    loop.begin(chunk)
                finished = loop.advance()
                if finished is not None:
                    yield finished + left
        except GeneratorExit:
            if len(loop.flight) > 1:
                parts.model.__dict__["left"] = torch.tensor(1e-3)
            raise
