"""The memory of a stream: its size, what it holds, and what writes it."""

from __future__ import annotations

import torch
from torch import Tensor

from vace_adapt.contract import HintSource
from vace_adapt_conformance.check import check, expect, expect_bits, expect_same
from vace_adapt_conformance.scripted import CLEAN, Prompts, Run, Script
from vace_adapt_conformance.sources import random_hints, while_denoising
from vace_adapt_conformance.subject import Subject


@check("cache")
def memory_is_fixed(subject: Subject) -> None:
    """The memory is the same tensors at the same addresses for the whole stream, full or not, with hints."""
    run = _run(subject, Script(source=while_denoising(random_hints(subject))))
    before = _places(run)
    for index in range(run.filling + 1 if run.shapes.max_latents is None else run.filling):
        run.next()
        now = _places(run)
        expect(now.keys() == before.keys(), f"chunk {index}: tensors {sorted(now.keys() ^ before.keys())} came or went")
        moved = [name for name in now if now[name] != before[name]]
        expect(
            not moved, f"chunk {index}: {moved[:1]} is another tensor, or of another size, than when the stream began"
        )


@check("cache")
def positions_are_the_frames_held(subject: Subject) -> None:
    """Every slot says which past latent frame it holds, or -1: outside a bank distinct ones, the newest among them."""
    run = _run(subject)
    layout = run.cache.layout
    for index in range(run.filling):
        run.next()
        end = run.shapes.time.latent_start(index + 1)
        positions = list(run.cache.positions())
        video = _video(run)
        expect(len(positions) == layout.slots, f"positions names {len(positions)} slots, the layout has {layout.slots}")
        expect(len(set(video)) == len(video), f"after chunk {index} a latent frame is held twice: {video}")
        expect(
            all(-1 <= frame < end for frame in positions),
            f"after chunk {index}, {end} latent frames, positions are {positions}",
        )
        newest = range(max(run.shapes.time.latent_start(index), end - layout.slots + layout.bank), end)
        expect(
            set(newest) <= set(video), f"after chunk {index} the newest frames {list(newest)} are not held: {positions}"
        )


@check("cache", "sink")
def the_sink_stays(subject: Subject) -> None:
    """The first latent frames stay in the memory for good; in a sink that is refreshed, until new ones replace them."""
    run = _run(subject)
    sink = run.cache.layout.sink
    expect(sink > 0, "capability sink is declared, the layout has a sink of 0 latent frames")
    if run.cache.layout.refreshed:
        _sink_is_only_refreshed(run, sink)
        return
    run.make(run.filling)
    expected = set(range(min(sink, run.shapes.time.latent_start(run.filling))))
    held = sorted(run.cache.positions())
    expect(expected <= set(held), f"after {run.filling} chunks the sink {sorted(expected)} is not held: {held}")


def _sink_is_only_refreshed(run: Run, sink: int) -> None:
    """A slot of the sink is left as it is, or holds a frame of the chunk that was made last."""
    before = list(run.cache.positions())[:sink]
    for index in range(run.filling + sink):
        run.next()
        now = list(run.cache.positions())[:sink]
        newest = range(run.shapes.time.latent_start(index), run.shapes.time.latent_start(index + 1))
        for slot, (old, new) in enumerate(zip(before, now, strict=True)):
            expect(
                new in (old, *newest),
                f"after chunk {index} slot {slot} of the sink holds frame {new}, held {old}: expected that, or one of "
                f"the newest {list(newest)}",
            )
        before = now
    expect(-1 not in before, f"after {run.filling + sink} chunks the sink has empty slots: {before}")


@check("cache", "window", telling=False)
def the_oldest_leaves_first(subject: Subject) -> None:
    """Outside sink and bank the memory holds the newest latent frames, as many as it has slots for."""
    run = _run(subject)
    layout = run.cache.layout
    for index in range(run.filling):
        run.next()
        end = run.shapes.time.latent_start(index + 1)
        room = layout.slots - layout.sink - layout.bank
        expected = set(range(max(0, end - room), end))
        held = sorted(_video(run))
        expect(expected <= set(held), f"after chunk {index} the window {sorted(expected)} is not held: {held}")


@check("cache", "clean_pass", "preserve_latents")
def clean_pass_is_hint_free(subject: Subject) -> None:
    """After controlled chunks the memory is what the bare base writes for the same latents, bit for bit."""
    made, memory = _controlled(subject, Script().prompts, until=3)
    _as_bare(subject, Script().prompts, made, memory)


@check("cache", "clean_pass", "preserve_latents", "prompt_switch", telling=False)
def recache_is_hint_free(subject: Subject) -> None:
    """Behind controlled chunks a prompt switch leaves what the bare base leaves for the same latents, bit for bit."""
    prompts = {0: "a red ball", 2: "two dogs run"}
    made, memory = _controlled(subject, prompts, until=2)
    _as_bare(subject, prompts, made, memory)


@check("cache", "clean_pass")
def clean_pass_sees_what_is_finished(subject: Subject) -> None:
    """The clean pass runs once a chunk, on the finished latents, at the level it asks for."""
    run = _run(subject, watch=True)
    for index, latents in enumerate(run.make(2)):
        count = sum(one.chunk == index and one.step == CLEAN for one in run.asked)
        expect(count == 1, f"chunk {index}: {count} clean passes asked for their hints, expected 1")
        sigma = next(one.sigma for one in run.asked if one.chunk == index and one.step == CLEAN)
        came = run.pass_of(index, CLEAN).latents
        if sigma < 0.01:
            expect_bits(came, latents, f"chunk {index}: latents of the clean pass")
        else:
            apart, most = float((came - latents).abs().mean()), 2 * sigma
            expect(apart < most, f"chunk {index}: latents of the clean pass are {apart:.3g} off the finished ones")


@check("cache")
def snapshots_hold_everything(subject: Subject) -> None:
    """A snapshot put back is the same memory in the same tensors, however far the stream has gone since."""
    run = _run(subject)
    run.make(2)
    kept, before, positions = run.cache.snapshot(), run.memory(), list(run.cache.positions())
    run.make(1 if run.shapes.max_latents else run.filling)
    run.cache.restore(kept)
    now = run.cache.tensors()
    for name, tensor in before.items():
        expect_bits(now[name], tensor, f"{name}, snapshot put back")
    expect(
        list(run.cache.positions()) == positions, f"positions put back are {run.cache.positions()}, were {positions}"
    )


@check("cache")
def the_memory_is_all_there_is(subject: Subject) -> None:
    """A stream goes on from another stream's snapshot as that one does, bit for bit: nothing else outlives a chunk."""
    one = _run(subject)
    one.make(2)
    kept = one.cache.snapshot()
    other = _run(subject, Script(seeds=(5,), seeds_at={2: (0,)}))
    other.make(2)
    other.cache.restore(kept)
    expect_bits(other.next(), one.next(), "the chunk after a snapshot of another stream was put back")


@check("cache")
def reset_is_a_fresh_memory(subject: Subject) -> None:
    """After ``reset`` every tensor and every position is that of a fresh memory."""
    run, fresh = _run(subject), _run(subject)
    run.make(3)
    run.cache.reset()
    expected = fresh.cache.tensors()
    for name, tensor in run.cache.tensors().items():
        expect_bits(tensor, expected[name], f"{name} after a reset")
    came, positions = list(run.cache.positions()), list(fresh.cache.positions())
    expect(came == positions, f"positions after a reset are {came}, of a fresh memory {positions}")


def _run(subject: Subject, script: Script | None = None, *, watch: bool = False) -> Run:
    return Run(subject.pipe, (subject.height, subject.width), script, watch=watch)


def _video(run: Run) -> list[int]:
    """The latent frames held outside the bank."""
    layout = run.cache.layout
    return [frame for frame in run.cache.positions()[: layout.slots - layout.bank] if frame != -1]


def _places(run: Run) -> dict[str, tuple[int, int]]:
    return {name: (tensor.data_ptr(), tensor.numel()) for name, tensor in run.cache.tensors().items()}


def _controlled(subject: Subject, prompts: Prompts, *, until: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Latents and memory of three chunks with hints at every denoise step before chunk `until`."""
    hints = random_hints(subject)

    def source(chunk: int, step: int) -> HintSource | None:
        return hints if step >= 0 and chunk < until else None

    run = _run(subject, Script(source=source, prompts=prompts))
    return run.make(3), run.memory()


def _as_bare(subject: Subject, prompts: Prompts, made: list[Tensor], memory: dict[str, Tensor]) -> None:
    """The same chunks without hints: ``chunk.keep`` puts the controlled stream's finished latents in their place."""
    bare = _run(subject, Script(keep=lambda chunk, latents: made[chunk].clone(), prompts=prompts))
    expect_same(bare.make(3), made, "the bare stream over the controlled one's latents")
    now = bare.cache.tensors()
    for name, tensor in memory.items():
        if torch.is_floating_point(tensor):
            expect_bits(tensor, now[name], f"{name} after controlled chunks, beside the bare base's")
