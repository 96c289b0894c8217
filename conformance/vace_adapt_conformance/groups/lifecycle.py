"""Streams beside and after one another, and what they leave behind."""

from __future__ import annotations

import gc
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from vace_adapt.context.injection import Attachment
from vace_adapt.contract import BlockInputs, HintSource, Injection
from vace_adapt.hookspecs import hookimpl
from vace_adapt_conformance.check import check, expect, expect_bits, expect_other, expect_same
from vace_adapt_conformance.inputs import frames, picture
from vace_adapt_conformance.scripted import CLEAN, PROMPT, REBUILD, Run, Script
from vace_adapt_conformance.sources import random_hints, while_denoising
from vace_adapt_conformance.subject import Subject


@check("lifecycle")
def interleaved_streams_do_not_meet(subject: Subject) -> None:
    """Two streams of one model, a chunk of each in turn, equal each of them alone, bit for bit."""
    alone = [_finished(subject, Script(seeds=(seed,)), 3) for seed in (0, 1)]
    runs = [_run(subject, Script(seeds=(seed,))) for seed in (0, 1)]
    together = [[run.next() for run in runs] for _ in range(3)]
    for run in runs:
        run.finish()
    for row in range(2):
        expect_same([chunks[row] for chunks in together], alone[row], f"stream {row} beside another")


@check("lifecycle")
def a_stopped_stream_leaves_nothing(subject: Subject) -> None:
    """A stream that is stopped half-way leaves no state: the next one is as if it had never been."""
    expected = _finished(subject)
    stopped = _run(subject)
    stopped.make(2)
    stopped.close()
    expect_same(_finished(subject), expected, "a stream after one that was stopped")


@check("lifecycle")
def an_error_comes_through(subject: Subject) -> None:
    """An error inside a pass comes out of the loop as it is, and the next stream is as if it had never been."""
    expected = _finished(subject)

    def broken(inputs: BlockInputs) -> dict[int, Tensor]:
        raise ZeroDivisionError("inside the hints")

    run = _run(subject, Script(source=lambda chunk, step: HintSource(broken) if (chunk, step) == (1, 0) else None))
    run.next()
    try:
        run.next()
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("an error inside the hints of a pass was swallowed, expected it to come out of the loop")
    expect_same(_finished(subject), expected, "a stream after one that failed")


@check("lifecycle")
def the_model_is_left_as_it_was(subject: Subject) -> None:
    """A stream with hints changes no weight, mode, hook or gradient setting of the model."""
    pipe = subject.fresh()
    model = pipe.parts.model
    before, hooks, modes = _state(model), _hooks(model), _modes(model)
    parameters = {name: id(parameter) for name, parameter in model.named_parameters()}
    run = Run(pipe, (subject.height, subject.width), Script(source=while_denoising(random_hints(subject))))
    run.make(2)
    run.finish()
    after = model.state_dict()
    expect(after.keys() == before.keys(), f"state-dict keys changed: {sorted(after.keys() ^ before.keys())[:3]}")
    for name, tensor in after.items():
        expect_bits(tensor, before[name], f"after a stream: {name}")
    expect(_modes(model) == modes, "a stream changed training modes or requires_grad of the model")
    expect(_hooks(model) == hooks, f"the model has {_hooks(model)} hooks after a stream, had {hooks}")
    now = {name: id(parameter) for name, parameter in model.named_parameters()}
    expect(now == parameters, "a stream replaced parameters of the model")


@check("lifecycle")
def hooks_come_off(subject: Subject) -> None:
    """Hints through hooks on the located blocks equal hints by argument, bit for bit; detached, nothing is left."""
    if subject.injection is Injection.HOOKS:
        _attach_to_live(subject)
        return
    pipe, hints = subject.pipe, random_hints(subject)
    model, layers = pipe.parts.model, tuple(range(pipe.parts.backbone.layers))
    expected = _finished(subject, Script(source=while_denoising(hints)))
    bare, before, hooks = _finished(subject), _state(model), _hooks(model)
    attachment = Attachment(model, pipe.hooks.locate_blocks(model, pipe.parts.layout), layers)
    try:
        with ExitStack() as inside:

            def source(chunk: int, step: int) -> None:
                inside.close()
                inside.enter_context(attachment.running(hints if step >= 0 else None))

            expect_same(_finished(subject, Script(source=source)), expected, "hints through hooks")
    finally:
        attachment.detach()
    expect(_hooks(model) == hooks, f"the model has {_hooks(model)} hooks after detaching, had {hooks}")
    for name, tensor in model.state_dict().items():
        expect_bits(tensor, before[name], f"after detaching: {name}")
    expect_same(_finished(subject), bare, "a stream after detaching")


@check("lifecycle", "prompt_switch")
def a_prompt_holds_from_its_chunk_on(subject: Subject) -> None:
    """A new prompt is what the blocks get from its chunk on, in every pass, and nothing before changes."""
    other = "two dogs run"
    switched = _run(subject, Script(prompts={0: PROMPT, 2: other}), watch=True)
    plain, under = _run(subject, watch=True), _run(subject, Script(prompts={0: other}), watch=True)
    made, expected = switched.make(3), plain.make(3)
    under.next()
    for run in (switched, plain, under):
        run.finish()
    expect_same(made[:2], expected[:2], "chunks before a prompt switch")
    expect_other(made[2], expected[2], "the chunk of a prompt switch")
    text = under.passes[0].blocks[0][1].text
    for number in sorted({one.asked[2] for one in switched.passes if one.asked.get(2, REBUILD) >= CLEAN}):
        came = switched.pass_of(2, number).blocks[0][1].text
        expect_bits(came, text, f"text of pass {number} after a prompt switch")


@check("lifecycle")
def being_told_changes_nothing(subject: Subject) -> None:
    """A stream in core's session, told about its chunks and watched, equals the loop alone, bit for bit."""
    told: list[int] = []

    class Observer:
        @hookimpl
        def vace_chunk_done(self, report: Any) -> None:
            told.append(report.index)

    expected = _finished(subject, chunks=3)
    pipe = subject.fresh(hooks=subject.watched([Observer()]))
    with pipe.stream(PROMPT, height=subject.height, width=subject.width, seed=0) as session:
        came = [next(session).latents.clone() for _ in range(3)]
    expect_same(came, expected, "a watched stream")
    expect(told == [0, 1, 2], f"the observer was told about chunks {told}, expected [0, 1, 2]")


@check("lifecycle")
def references_change_no_sizes(subject: Subject) -> None:
    """Control and references change the latents, but neither their shape nor the tensors of the memory."""
    found = []
    choices: list[dict[str, Any]] = [{}, {"references": [picture(), picture(1)]}]
    for options in choices if subject.pipe.context is not None else []:
        with subject.pipe.stream(PROMPT, height=subject.height, width=subject.width, **options) as session:
            if options:
                session.feed(frames(session.shapes.time.pixels(0), subject.height, subject.width))
            latents = next(session).latents.clone()
            found.append((latents, {name: tuple(t.shape) for name, t in session.cache.tensors().items()}))
    if not found:
        return
    (bare, sizes), (controlled, other) = found
    expect(
        controlled.shape == bare.shape,
        f"latents with references are {list(controlled.shape)}, expected {list(bare.shape)}",
    )
    expect(other == sizes, "the memory of a stream with references has other sizes")
    expect_other(controlled, bare, "chunk 0 with control and references")


@check("lifecycle")
def nothing_grows(subject: Subject) -> None:
    """However long a stream is, no tensor is kept that was not there before."""
    run = _run(subject)
    most = run.shapes.max_latents
    settled = run.filling + 2 if most is None else max(2, run.filling // 2)
    more = 6 if most is None else max(1, run.filling - settled)
    gc.collect()
    gc.freeze()  # what is there already is not counted, so that counting is quick
    try:
        before = _bytes_after(run, settled)
        after = _bytes_after(run, more)
    finally:
        gc.unfreeze()
    run.finish()
    expect(after <= before, f"{more} more chunks keep {after - before} more bytes of tensors, expected none")


def _run(subject: Subject, script: Script | None = None, *, watch: bool = False) -> Run:
    return Run(subject.pipe, (subject.height, subject.width), script, watch=watch)


def _finished(subject: Subject, script: Script | None = None, chunks: int = 2) -> list[Tensor]:
    """A stream whose loop came to its end."""
    run = _run(subject, script)
    made = run.make(chunks)
    run.finish()
    return made


def _attach_to_live(subject: Subject) -> None:
    """A live model comes back as it was."""
    pipe = subject.fresh()
    model = pipe.parts.model
    before, attached = _state(model), _hooks(model)
    expect(attached > 0, "no hooks are on the live model")
    Run(pipe, (subject.height, subject.width), Script(source=while_denoising(random_hints(subject)))).make(2)
    pipe.detach()
    expect(_hooks(model) == 0, f"the live model has {_hooks(model)} hooks after detaching, expected none")
    for name, tensor in model.state_dict().items():
        expect_bits(tensor, before[name], f"after detaching: {name}")
    made = Run(pipe, (subject.height, subject.width)).make(2)
    expect_same(made, _run(subject).make(2), "a stream after detaching")


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _modes(model: nn.Module) -> tuple[list[bool], list[bool]]:
    return [module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]


def _hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def _bytes_after(run: Run, chunks: int) -> int:
    """Bytes of all tensors after so many more chunks, of which the suite itself keeps nothing."""
    for _ in range(chunks):
        run.next()
        run.chunks_made[-1] = torch.zeros(0)
        run.estimates.clear()
    return _tensor_bytes()


def _tensor_bytes() -> int:
    """Bytes of every dense tensor that is not frozen."""
    gc.collect()
    kinds = (Tensor, nn.Parameter)
    tensors = [found for found in gc.get_objects() if type(found) in kinds and found.layout == torch.strided]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
