"""A memory bank: what gets into it, what does not, and that it is used."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from vace_adapt.contract import HintSource, ReferenceRoom, SlotReferences
from vace_adapt.streaming.noise import draw
from vace_adapt_conformance.check import check, expect, expect_bits, expect_other
from vace_adapt_conformance.scripted import CLEAN, PROMPT, Prompts, Run, Script, Source
from vace_adapt_conformance.sources import random_hints
from vace_adapt_conformance.subject import Subject

MOST = 24
"""Chunks after which a bank must be full."""


@check("bank", "bank")
def the_bank_fills_and_stays_full(subject: Subject) -> None:
    """The bank takes in past latent frames until its slots are full, and stays so."""
    run = _run(subject)
    expect(run.cache.layout.bank > 0, "capability bank is declared, the layout has a bank of 0 latent frames")
    expect(bool(_bank(run)), "no tensor of the memory has a name that begins with bank")
    counts = [0]
    for index in range(_chunks_until_full(subject) + 2):
        run.next()
        held = _held(run)
        counts.append(len(held))
        expect(counts[-1] >= counts[-2], f"chunk {index} left the bank {counts[-1]} latent frames, it had {counts[-2]}")
        end = run.shapes.time.latent_start(index + 1)
        expect(all(frame < end for frame in held), f"after {end} latent frames the bank holds {held}")


@check("bank", "bank")
def the_bank_is_seen(subject: Subject) -> None:
    """A chunk depends on what the bank holds."""
    chunks = _chunks_until_full(subject)
    plain, other = _run(subject), _run(subject)
    for run in (plain, other):
        run.make(chunks)
    for tensor in _bank(other).values():
        if tensor.is_floating_point():
            tensor.neg_()
    expect_other(other.next(), plain.next(), "the chunk behind a bank with other keys and values")


@check("bank", "bank", telling=False)
def denoising_commits_nothing_to_the_bank(subject: Subject) -> None:
    """From the second denoise step of a chunk to its clean pass the bank keeps every bit: it is asked once a chunk."""
    chunks = _chunks_until_full(subject)
    begun: dict[int, dict[str, Tensor]] = {}

    def source(chunk: int, step: int) -> None:
        if step == 0 or step < CLEAN:
            return
        before = begun.setdefault(chunk, _copy(run))
        for name, tensor in _bank(run).items():
            expect_bits(tensor, before[name], f"{name} in chunk {chunk}, since its second denoise step")

    run = _run(subject, Script(source=source))
    run.make(chunks + 1)


@check("bank", "bank", "preserve_latents", telling=False)
def controls_stay_out_of_the_bank(subject: Subject) -> None:
    """With hints, and references in slots, a full bank holds what the bare base puts there for the same latents."""
    chunks, hints, slots = _chunks_until_full(subject), random_hints(subject), subject.has("reference_slots")
    room = ReferenceRoom(1, subject.pipe.parts.draws) if slots else None
    controlled = _run(subject, Script(source=_with_reference(subject, hints) if slots else _hinted(hints), room=room))
    made = controlled.make(chunks)
    bare = _run(subject, Script(keep=lambda chunk, latents: made[chunk].clone()))
    bare.make(chunks)
    _expect_same_bank(controlled, bare, "after controlled chunks, beside the bare base's")


@check("bank", "bank", "prompt_switch", telling=False)
def a_prompt_switch_rewrites_nothing_in_the_bank(subject: Subject) -> None:
    """A prompt switch rewrites nothing that a bank holds: until it is full, it is what it is without the switch."""
    probe = _run(subject)
    at = _chunks_until(probe, bool, "takes in nothing")
    if len(_held(probe)) == probe.cache.layout.bank:
        return  # full at once: it may choose by the new prompt
    plain = _bank_before(subject, {0: PROMPT}, at)
    switched = _bank_before(subject, {0: PROMPT, at: "two dogs run"}, at)
    for name, tensor in plain.items():
        expect_bits(switched[name], tensor, f"{name} behind a prompt switch, beside the same stream without")


@check("bank", "bank", telling=False)
def banks_of_two_streams_do_not_meet(subject: Subject) -> None:
    """Two streams, a chunk of each in turn, leave in their banks what each of them leaves alone."""
    chunks = _chunks_until_full(subject)
    alone = [_run(subject, Script(seeds=(seed,))) for seed in (0, 1)]
    for run in alone:
        run.make(chunks)
    turns = [_run(subject, Script(seeds=(seed,))) for seed in (0, 1)]
    for _ in range(chunks):
        for run in turns:
            run.next()
    for run, expected in zip(turns, alone, strict=True):
        _expect_same_bank(run, expected, "of a stream beside another")


@check("bank", "bank", telling=False)
def rows_have_banks_of_their_own(subject: Subject) -> None:
    """Behind a full bank, other noise in one row of a batch changes no bit of another row."""
    chunks = _chunks_until_full(subject) + 4
    one, other = (_run(subject, Script(seeds=seeds)).make(chunks)[-1] for seeds in ((0, 1), (0, 2)))
    expect_bits(other[:1], one[:1], f"row 0 of chunk {chunks - 1}, beside another row 1")


def _run(subject: Subject, script: Script | None = None) -> Run:
    return Run(subject.pipe, (subject.height, subject.width), script)


def _bank(run: Run) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in run.cache.tensors().items() if name.startswith("bank")}


def _copy(run: Run) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in _bank(run).items()}


def _held(run: Run) -> list[int]:
    """Latent frames in the slots of the bank, which come last."""
    layout = run.cache.layout
    return [frame for frame in run.cache.positions()[layout.slots - layout.bank :] if frame != -1]


def _bank_before(subject: Subject, prompts: Prompts, at: int) -> dict[str, Tensor]:
    """The bank when the first denoise step of a chunk is done."""
    found: dict[str, Tensor] = {}

    def source(chunk: int, step: int) -> None:
        if chunk == at and not found and (step > 0 or step == CLEAN):
            found.update(_copy(run))

    run = _run(subject, Script(prompts=prompts, source=source))
    run.make(at + 1)
    return found


def _chunks_until(run: Run, reached: Callable[[list[int]], bool], otherwise: str) -> int:
    """Make chunks until the bank holds what it should: how many there were."""
    time, most = run.shapes.time, run.shapes.max_latents
    for count in range(1, MOST + 1):
        if most is not None and time.latent_start(count) > most:
            break
        run.next()
        if reached(_held(run)):
            return count
    raise AssertionError(f"the bank {otherwise}: after {len(run.chunks_made)} chunks it holds {_held(run)}")


def _chunks_until_full(subject: Subject) -> int:
    run = _run(subject)
    return _chunks_until(run, lambda held: len(held) == run.cache.layout.bank, "does not fill")


def _expect_same_bank(run: Run, expected: Run, what: str) -> None:
    now = _bank(expected)
    for name, tensor in _bank(run).items():
        expect_bits(tensor, now[name], f"{name} {what}")


def _hinted(hints: HintSource) -> Source:
    return lambda chunk, step: hints if step >= 0 else None


def _with_reference(subject: Subject, hints: HintSource) -> Source:
    """Hints at every denoise step, and one reference in a slot."""
    shapes = _run(subject).shapes
    size = (shapes.channels, 1, shapes.height, shapes.width)

    def source(chunk: int, step: int) -> HintSource | None:
        if step < 0:
            return None
        references = SlotReferences(step, 1, step, lambda: draw([step], "reference", 0, size), lambda inputs: {})
        return HintSource(hints.hints, references)

    return source
