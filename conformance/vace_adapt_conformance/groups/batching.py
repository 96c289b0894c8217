"""A stream batch: the rows of one pass are those of several chunks, each at another step."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from torch import Tensor

from vace_adapt.contract import HintSource, ReferenceRoom, SlotReferences
from vace_adapt.streaming.noise import draw
from vace_adapt_conformance.check import check, expect, expect_bits, expect_other, expect_same
from vace_adapt_conformance.scripted import Prompts, Run, Script, Source
from vace_adapt_conformance.sources import hinted, made_by
from vace_adapt_conformance.subject import Subject

CHUNKS = 7
"""Of a stream: some of them begin beside two others, whatever the number of steps."""

MIDDLE = 4
"""One that others run beside before and after."""


@check("stream batch", "stream_batch")
def chunks_are_made_together(subject: Subject) -> None:
    """Chunks that have begun share passes: as many as the parts say run in one, and the stream takes fewer passes."""
    together, alone = _run(subject, ahead=True, watch=True), _run(subject, watch=True)
    together.make(CHUNKS)
    alone.make(CHUNKS)
    most = max(len(one.latents) for one in together.passes) // together.batch
    expected = subject.pipe.parts.chunks_at_once
    expect(most == expected, f"{most} chunks run in one pass, parts.chunks_at_once is {expected}")
    came, others = len(together.passes), len(alone.passes)
    expect(came < others, f"{CHUNKS} chunks take {came} passes together and {others} one after another")


@check("stream batch", "stream_batch")
def a_chunk_beside_others_is_the_same(subject: Subject) -> None:
    """Chunks made together equal those made one after another, in every row, to 1e-4."""
    prompts = {0: ("a red ball", "a dog")}
    made = [_run(subject, seeds=(4, 7), prompts=prompts, ahead=ahead).make(CHUNKS) for ahead in (True, False)]
    _expect_near(made[0], made[1], "made together")


@check("stream batch", "stream_batch")
def what_runs_beside_it_changes_no_bit(subject: Subject) -> None:
    """Other noise in the chunks behind it changes no bit of a chunk that they run beside."""
    one, other = (_run(subject, seeds_at={MIDDLE: (seed,)}, ahead=True).make(CHUNKS) for seed in (1, 2))
    expect_same(other[:MIDDLE], one[:MIDDLE], "beside other chunks")
    expect_other(other[MIDDLE], one[MIDDLE], f"chunk {MIDDLE} of other noise")


@check("stream batch", "stream_batch")
def every_chunk_is_asked_at_its_own_step(subject: Subject) -> None:
    """A chunk beside others is asked for the steps and noise levels that it is asked for alone, in order and once."""
    together, alone = _run(subject, ahead=True), _run(subject)
    for run in (together, alone):
        run.make(CHUNKS)
    for chunk in range(CHUNKS):
        came, expected = ([(a.step, a.sigma) for a in run.asked if a.chunk == chunk] for run in (together, alone))
        expect(came == expected, f"chunk {chunk} beside others is asked for (step, level) {came}, alone {expected}")


@check("stream batch", "stream_batch")
def hints_reach_their_own_rows(subject: Subject) -> None:
    """A chunk's hints are computed with its own rows and added to them alone, bit for bit."""
    layer = hinted(subject)[0]
    bare = _run(subject, seeds=(0, 1), ahead=True, watch=True)
    bare.make(CHUNKS)
    amount = made_by(lambda hidden: {layer: torch.full_like(hidden, 1.5)})
    source: Source = lambda chunk, step: amount if (chunk, step) == (MIDDLE, 0) else None  # noqa: E731
    run = _run(subject, seeds=(0, 1), ahead=True, watch=True, source=source)
    run.make(CHUNKS)
    own, before = run.pass_of(MIDDLE, 0), bare.pass_of(MIDDLE, 0)
    expect_bits(own.latents, run.noise(MIDDLE, 0), f"latents of chunk {MIDDLE} at step 0")
    expect_bits(own.hidden(layer + 1), before.hidden(layer + 1) + 1.5, f"chunk {MIDDLE} behind its hint")
    for chunk, step in ((c, s) for c, s in before.asked.items() if c != MIDDLE):
        came, expected = (each.pass_of(chunk, step).hidden(layer + 1) for each in (run, bare))
        expect_bits(came, expected, f"chunk {chunk} beside chunk {MIDDLE}, which has a hint")


@check("stream batch", "stream_batch", "preserve_latents")
def estimates_stay_with_their_chunks(subject: Subject) -> None:
    """A chunk's own estimates go through its ``chunk.keep``, and what comes back is used for it alone."""

    def keep(chunk: int, latents: Tensor) -> Tensor:
        kept = latents.clone()
        kept[..., : latents.shape[-1] // 2] = 0.1 * chunk
        return kept

    made = _run(subject, keep=keep, ahead=True).make(CHUNKS)
    for chunk, latents in enumerate(made):
        left = latents[..., : latents.shape[-1] // 2]
        expect(
            bool((left == 0.1 * torch.tensor(chunk)).all()),
            f"chunk {chunk} beside others is finished with {float(left.flatten()[0]):.3g} where chunk.keep had put "
            f"{0.1 * chunk:.3g}",
        )
    _expect_near(made, _run(subject, keep=keep).make(CHUNKS), "with parts that are kept")


@check("stream batch", "stream_batch", "prompt_switch")
def a_prompt_holds_in_its_own_rows(subject: Subject) -> None:
    """Two prompts at work at once: a chunk's rows get the one that held when it began, at every step."""
    prompts = {0: "a red ball", MIDDLE: "two dogs run"}
    switched, plain = (_run(subject, prompts=each, ahead=True, watch=True) for each in (prompts, {0: "a red ball"}))
    under = _run(subject, prompts={0: "two dogs run"}, watch=True)
    made, expected = switched.make(CHUNKS), plain.make(CHUNKS)
    under.next()
    new, old = (run.pass_of(0, 0).blocks[0][1].text for run in (under, plain))
    for chunk in range(1, CHUNKS):
        for step in sorted({one.asked[chunk] for one in switched.passes if one.asked.get(chunk, -1) >= 0}):
            came = switched.pass_of(chunk, step).blocks[0][1].text
            apart = float((came - (old if chunk < MIDDLE else new)).abs().max())
            expect(apart < 1e-4, f"chunk {chunk}, step {step}: its prompt's tokens are {apart:.3g} off")
    _expect_near(made[:MIDDLE], expected[:MIDDLE], "before the chunk of a prompt switch")
    expect_other(made[MIDDLE], expected[MIDDLE], "the chunk of a prompt switch")


@check("stream batch", "stream_batch", "reference_slots")
def references_stay_with_their_chunks(subject: Subject) -> None:
    """References in slots that change from chunk to chunk are seen by the chunks that they were given for, to 1e-4."""
    changes: dict[int, str | None] = {0: "a", MIDDLE - 1: None, MIDDLE: "b"}
    made = [_with_references(subject, changes, ahead=ahead) for ahead in (True, False)]
    _expect_near(made[0], made[1], "with references in slots")
    others = _with_references(subject, {0: "a", MIDDLE - 1: None, MIDDLE: "c"}, ahead=True)
    _expect_near(others[:MIDDLE], made[0][:MIDDLE], "in front of a chunk that sees another reference")
    expect_other(others[MIDDLE], made[0][MIDDLE], f"chunk {MIDDLE} that sees another reference")


@check("stream batch", "stream_batch")
def the_memory_of_a_batch_is_fixed(subject: Subject) -> None:
    """The memory is the same tensors at the same addresses while chunks are made together."""
    run = _run(subject, ahead=True)
    run.wanted(CHUNKS)
    before = {name: (tensor.data_ptr(), tensor.numel()) for name, tensor in run.cache.tensors().items()}
    for chunk in range(CHUNKS):
        run.next()
        now = {name: (tensor.data_ptr(), tensor.numel()) for name, tensor in run.cache.tensors().items()}
        moved = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
        expect(not moved, f"chunk {chunk}: {moved[:1]} is another tensor, or of another size, than before")


@check("stream batch", "stream_batch")
def a_stopped_batch_leaves_nothing(subject: Subject) -> None:
    """A stream stopped while several chunks are at work leaves no state: the next is as if it had never been."""
    expected = _run(subject, ahead=True).make(CHUNKS)
    stopped = _run(subject, seeds=(3,), ahead=True)
    stopped.wanted(CHUNKS)
    for _ in range(MIDDLE):
        stopped.next()
    stopped.close()
    expect_same(_run(subject, ahead=True).make(CHUNKS), expected, "a stream after one that was stopped")


def _run(
    subject: Subject,
    *,
    ahead: bool = False,
    watch: bool = False,
    prompts: Prompts | None = None,
    **script: object,
) -> Run:
    size = (subject.height, subject.width)
    made = Script(ahead=ahead, prompts=prompts or Script().prompts, **script)  # type: ignore[arg-type]
    return Run(subject.pipe, size, made, watch=watch)


def _with_references(subject: Subject, changes: Mapping[int, str | None], *, ahead: bool) -> list[Tensor]:
    """A stream whose chunks see the reference of the last change, or none."""
    room = ReferenceRoom(2, subject.pipe.parts.draws)
    shapes = _run(subject).shapes
    shape = (shapes.channels, 1, shapes.height, shapes.width)

    def source(chunk: int, step: int) -> HintSource | None:
        name = changes[max(at for at in changes if at <= chunk)]
        if step < 0 or name is None:
            return None
        made_of: Hashable = (name, step)
        seen = SlotReferences(step, 1, made_of, lambda: draw([step], name, 0, shape), lambda inputs: {})
        return HintSource(lambda inputs: {}, seen)

    return _run(subject, ahead=ahead, room=room, source=source).make(CHUNKS)


def _expect_near(came: list[Tensor], expected: list[Tensor], what: str) -> None:
    for index, (one, other) in enumerate(zip(came, expected, strict=True)):
        apart = float((one - other).abs().max())
        expect(apart < 1e-4, f"{what}, chunk {index}: {apart:.3g} off what it is alone")
