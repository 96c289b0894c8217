"""How hints enter the base model."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from vace_adapt.contract import BlockInputs, HintSource
from vace_adapt.streaming.pipeline import Pipeline
from vace_adapt_conformance.check import check, expect, expect_bits, expect_same
from vace_adapt_conformance.inputs import frames, picture
from vace_adapt_conformance.scripted import CLEAN, Run, Script
from vace_adapt_conformance.sources import frame_rows, hinted, made_by, while_denoising
from vace_adapt_conformance.subject import Subject


@check("hints")
def silent_control_is_the_base(subject: Subject) -> None:
    """Nothing given, or everything at scale 0: the bare base model's stream, bit for bit."""
    bare = _streamed(subject.bare(), subject)
    expect_same(_streamed(subject.pipe, subject), bare, "a stream that nothing is given to")
    if subject.pipe.context is not None:
        silent = _streamed(subject.pipe, subject, control=True, scale=0.0, references=[picture()])
        expect_same(silent, bare, "a stream at scale 0")


@check("hints")
def zero_hints_change_nothing(subject: Subject) -> None:
    """Hints that are zero, or hints for no block: the bare stream, bit for bit."""
    bare = _made(subject, None)
    zeros = made_by(lambda hidden: {layer: torch.zeros_like(hidden) for layer in hinted(subject)})
    expect_same(_made(subject, zeros), bare, "a stream with hints of zeros")
    expect_same(_made(subject, made_by(lambda hidden: {})), bare, "a stream with hints for no block")


@check("hints")
def a_hint_lands_behind_its_block(subject: Subject) -> None:
    """A hint is added to its block's output: nothing before it changes, and the next block gets it, bit for bit."""
    bare, layers = _first_pass(subject, None), subject.pipe.parts.backbone.layers
    for layer in hinted(subject):
        amount = 1.0 + layer

        def hints(hidden: Tensor, at: int = layer, amount: float = amount) -> dict[int, Tensor]:
            return {at: torch.full_like(hidden, amount)}

        came = _first_pass(subject, made_by(hints))
        for block in range(layer + 1):
            expect_bits(came(block), bare(block), f"a hint for block {layer}: what enters block {block}")
        if layer + 1 < layers:
            expect_bits(
                came(layer + 1), bare(layer + 1) + amount, f"a hint for block {layer}: what enters block {layer + 1}"
            )


@check("hints")
def a_hint_keeps_to_its_rows(subject: Subject) -> None:
    """A hint on one latent frame of a chunk is added to that frame's tokens and to no others."""
    bare = _first_pass(subject, None)
    tokens, layers = bare(0).shape[1], subject.pipe.parts.backbone.layers
    count = _run(subject).shapes.time.latents(0)
    for frame in range(count):
        rows = frame_rows(tokens, frame, count)

        def hints(hidden: Tensor, rows: Tensor = rows) -> dict[int, Tensor]:
            return {layer: rows[None, :, None].to(hidden).expand_as(hidden) for layer in hinted(subject)}

        came = _first_pass(subject, made_by(hints))
        for block in range(1, layers):
            changed = (came(block) != bare(block)).any(dim=2)[0]
            if changed.any():
                expect(
                    torch.equal(changed, rows),
                    f"a hint on latent frame {frame} changed tokens {changed.nonzero().flatten().tolist()}, "
                    f"expected {rows.nonzero().flatten().tolist()}",
                )
                break


@check("hints")
def hints_are_computed_once(subject: Subject) -> None:
    """A pass that gets a source calls it once, with what enters block 0; each denoise step gets its own."""
    calls: list[tuple[int, int, BlockInputs]] = []

    def source(chunk: int, step: int) -> HintSource | None:
        def hints(inputs: BlockInputs) -> dict[int, Tensor]:
            calls.append((chunk, step, BlockInputs(*(t.clone() for t in _fields(inputs)))))
            return {}

        return HintSource(hints) if step >= 0 else None

    run = _run(subject, Script(source=source), watch=True)
    run.make(2)
    asked = [(one.chunk, one.step) for one in run.asked if one.step >= 0]
    came = [(chunk, step) for chunk, step, _ in calls]
    expect(came == asked, f"hints were computed for (chunk, step) {came}, expected {asked}")
    for chunk, step, inputs in calls:
        entered = run.pass_of(chunk, step).blocks[0][1]
        for name, one, other in zip(("hidden", "modulation", "text"), _fields(inputs), _fields(entered), strict=True):
            expect_bits(one, other, f"chunk {chunk}, step {step}: {name} given to the hints")


@check("hints")
def a_hint_of_another_length_is_refused(subject: Subject) -> None:
    """A hint with more rows than the chunk has tokens is an error; it is never cut to fit."""
    long = made_by(lambda hidden: {layer: torch.cat([hidden, hidden], dim=1) for layer in hinted(subject)})
    run = _run(subject, Script(source=while_denoising(long)))
    try:
        run.next()
    except AssertionError:
        raise
    except Exception:  # whatever the model makes of it
        return
    raise AssertionError("a hint of twice the chunk's tokens was taken, expected an error")


@check("hints", "preserve_latents")
def sigma_is_the_noise_level(subject: Subject) -> None:
    """Steps come in order, at falling noise levels; one with noise of its own runs on the estimate at its level."""
    run = _run(subject, watch=True)
    run.make(2)
    for chunk in range(2):
        steps = [one for one in run.asked if one.chunk == chunk and one.step >= 0]
        numbers = [one.step for one in steps]
        expect(numbers == list(range(len(steps))), f"chunk {chunk}: steps came as {numbers}, expected 0, 1, ...")
        levels = [one.sigma for one in steps]
        expect(all(0 < level <= 1 for level in levels), f"chunk {chunk}: noise levels {levels} are not in (0, 1]")
        expect(all(a > b for a, b in pairwise(levels)), f"chunk {chunk}: noise levels {levels} do not fall")
        estimates = [latents for at, latents in run.estimates if at == chunk]
        for step in steps[1:] if subject.pipe.parts.solver_steps is None else ():
            clean, noise = estimates[step.step - 1], run.noise(chunk, step.step)
            expected = (1 - step.sigma) * clean + step.sigma * noise
            apart = float((run.pass_of(chunk, step.step).latents - expected).abs().max())
            expect(
                apart < 1e-3,
                f"chunk {chunk}, step {step.step}: latents are {apart:.3g} off "
                f"(1-s)*clean + s*noise at s={step.sigma:.4g}",
            )


@check("hints", "clean_pass")
def clean_pass_takes_its_hints(subject: Subject) -> None:
    """The clean pass runs with the hints that ``chunk.clean_pass`` gave, once."""
    calls: list[int] = []

    def source(chunk: int, step: int) -> HintSource | None:
        def hints(inputs: BlockInputs) -> dict[int, Tensor]:
            calls.append(chunk)
            return {}

        return HintSource(hints) if step == CLEAN else None

    run = _run(subject, Script(source=source))
    run.make(2)
    expect(calls == [0, 1], f"hints of the clean pass were computed in chunks {calls}, expected [0, 1]")


def _run(subject: Subject, script: Script | None = None, *, watch: bool = False) -> Run:
    return Run(subject.pipe, (subject.height, subject.width), script, watch=watch)


def _made(subject: Subject, source: HintSource | None) -> list[Tensor]:
    script = Script() if source is None else Script(source=while_denoising(source))
    return _run(subject, script).make(3)


def _first_pass(subject: Subject, source: HintSource | None) -> Callable[[int], Tensor]:
    """What entered each block in the first pass of a stream."""
    script = Script() if source is None else Script(source=while_denoising(source))
    run = _run(subject, script, watch=True)
    run.next()
    return run.passes[0].hidden


def _streamed(pipe: Pipeline, subject: Subject, *, control: bool = False, **options: Any) -> list[Tensor]:
    """Three chunks of a stream through core's own session."""
    with pipe.stream("a red ball", height=subject.height, width=subject.width, **options) as session:
        made = []
        for index in range(3):
            if control:
                session.feed(frames(session.shapes.time.pixels(index), subject.height, subject.width))
            made.append(next(session).latents.clone())
    return made


def _fields(inputs: BlockInputs) -> tuple[Tensor, Tensor, Tensor]:
    return inputs.hidden, inputs.modulation, inputs.text
