"""Hints that are added again at later steps of a chunk: which, and that they are never another chunk's."""

from __future__ import annotations

import pytest
import torch
from levels import equal
from support import patch

from vace_adapt.context import chunk as chunk_module
from vace_adapt.context.chunk import ChunkContext
from vace_adapt.context.reuse import LastHints, made_at
from vace_adapt.scale import Schedule

from .conftest import FRAMES, LAYERS, STEPS, chunk_context, randn, references

CLEAN = -1
WINDOW = Schedule(steps=((0, 1.0), (1, 1.0), (2, 0.5)))
"""The control's scale is 1 at steps 0 and 1, a half at steps 2 and 3."""


def made(context, number=0, **options):
    """The context of a chunk of its own control latents."""
    return chunk_context(context, randn(1, 96, FRAMES, 4, 6, seed=100 + number), chunk=number, **options)


def hints(tiny, context_chunk, step):
    """Of a pass over noisy latents that no other step has."""
    source = context_chunk.source(step, 0.9 - 0.2 * step)
    return {} if source is None else tiny.run(randn(1, 16, FRAMES, 4, 6, seed=step), source, 900.0 - 200 * step)[1]


def alone(tiny, context, step, number=0, **options):
    """Hints of a step that nothing came before."""
    return hints(tiny, made(context, number, **options), step)


def scales(*controls, references=()):
    return [(torch.tensor(control, dtype=torch.float64), list(references)) for control in controls]


@pytest.mark.parametrize(
    ("given", "every", "expected"),
    [
        (scales(1, 1, 1, 1), 1, [0, 1, 2, 3]),
        (scales(1, 1, 1, 1), 2, [0, 0, 2, 2]),
        (scales(1, 1, 1, 1), 3, [0, 0, 0, 3]),
        (scales(1, 1, 1, 1), 9, [0, 0, 0, 0]),
        (scales(1, 1, 0.5, 0.5), 4, [0, 0, 2, 2]),
        (scales(1, 0.5, 1, 1), 4, [0, 1, 2, 2]),
        (scales(0, 1, 1, 1), 2, [0, 1, 2, 2]),
        (scales(0, 1, 1, 1), 4, [0, 1, 1, 1]),
        (scales(1, 0, 1, 1), 4, [0, 1, 0, 0]),
        (scales(1, 1, 0, 1), 2, [0, 0, 2, 3]),
        (scales(0, 0, 0, 0), 4, [0, 1, 2, 3]),
        ([*scales(1, references=(0.5,)), *scales(1, references=(0.4,))], 2, [0, 1]),
        ([*scales(0, references=(0.5,)), *scales(0, references=(0.5,))], 2, [0, 0]),
        (scales([1.0, 0.5], [1.0, 0.5], [1.0, 0.0]), 4, [0, 0, 2]),
        (scales([0.0, 0.0], [0.0, 0.5], [0.0, 0.5]), 4, [0, 1, 1]),
    ],
)
def test_where_hints_are_made(given, every, expected):
    assert made_at(given, every) == expected


@pytest.mark.parametrize("form", ["joint", "cached"])
@pytest.mark.parametrize("every", [1, 2, 3, 4, 9])
def test_steps_between_have_exactly_the_hints_that_were_made_last(tiny, runs, form, every):
    context = tiny.context(form)
    context.set_references(references(1))
    own = [alone(tiny, context, step) for step in range(STEPS)]
    shared, found = made(context, hint_reuse=every), []
    runs.clear()
    for step in range(STEPS):
        found.append(hints(tiny, shared, step))
    for step in range(STEPS):
        assert equal(found[step], own[step - step % every])
        assert not any(equal(found[step], own[other]) for other in range(STEPS) if other != step - step % every)
    assert len(runs) == -(-STEPS // every) * len(LAYERS)


def test_a_step_of_other_scales_makes_its_own(tiny, runs):
    context = tiny.context(control_schedule=WINDOW)
    own = [alone(tiny, context, step) for step in range(STEPS)]
    shared = made(context, hint_reuse=4)
    runs.clear()
    assert [equal(hints(tiny, shared, step), own[made]) for step, made in enumerate((0, 0, 2, 2))] == [True] * STEPS
    assert len(runs) == 2 * len(LAYERS)


def test_a_map_or_a_reference_that_changes_by_step_makes_its_own(tiny):
    maps = torch.ones(STEPS, 1, FRAMES, 2, 3)
    maps[2:, ..., 0] = 0.25
    fading = {"references_schedule": WINDOW}
    for held, scale, factors in ((None, {}, maps), (references(1), fading, None)):
        context = tiny.context("cached", **scale)
        context.set_references(held)
        options = {"control_factors": factors}
        own = [alone(tiny, context, step, **options) for step in range(STEPS)]
        shared = made(context, hint_reuse=4, **options)
        assert all(equal(hints(tiny, shared, step), own[made]) for step, made in enumerate((0, 0, 2, 2)))


def test_a_silent_step_stays_silent(tiny, runs):
    context = tiny.context(control_schedule=Schedule(start_step=1, end_step=3))
    own = alone(tiny, context, 1)
    shared = made(context, hint_reuse=4)
    runs.clear()
    found = [hints(tiny, shared, step) for step in range(STEPS)]
    assert [bool(one) for one in found] == [False, True, True, False]
    assert equal(found[1], own)
    assert equal(found[2], own)
    assert len(runs) == len(LAYERS)


def check_clean_pass(tiny):
    context = tiny.context()
    own = alone(tiny, context, CLEAN)
    shared = made(context, hint_reuse=4)
    steps = [hints(tiny, shared, step) for step in range(STEPS)]
    assert equal(hints(tiny, shared, CLEAN), own)
    assert not equal(own, steps[0])
    assert equal(hints(tiny, shared, CLEAN), own), "nor does it keep them"


def check_chunks(tiny):
    """Whatever another chunk has made; also where a loop begins behind step 0, or has two chunks at work."""
    context = tiny.context()
    own = {n: [alone(tiny, context, step, n) for step in range(STEPS)] for n in range(3)}
    first, second, late = (made(context, number, hint_reuse=2) for number in range(3))
    assert equal(hints(tiny, first, 0), own[0][0])
    assert equal(hints(tiny, second, 0), own[1][0])
    assert equal(hints(tiny, first, 1), own[0][1]), "let go when the other chunk made its own"
    assert equal(hints(tiny, second, 1), own[1][1])
    assert equal(hints(tiny, first, 2), own[0][2])
    assert equal(hints(tiny, first, 3), own[0][2])
    assert equal(hints(tiny, late, 1), own[2][1])
    assert equal(hints(tiny, late, 2), own[2][2])
    again = made(context, 0, hint_reuse=2)
    hints(tiny, first, 0)
    assert equal(hints(tiny, again, 1), own[0][1]), "a number does not make a chunk"


def check_references(tiny):
    """Another prompt or other references come with another chunk."""
    context = tiny.context()
    context.set_references(references(1))
    hints(tiny, made(context, hint_reuse=4), 0)
    context.set_references(references(1, seed=50))
    changed = tiny.context()
    changed.set_references(references(1, seed=50))
    assert equal(hints(tiny, made(context, hint_reuse=4), 1), alone(tiny, changed, 1))


def test_the_clean_pass_has_its_own(tiny):
    check_clean_pass(tiny)


def test_no_chunk_has_another_ones(tiny):
    check_chunks(tiny)
    check_references(tiny)


def any_chunk(real):
    return lambda self, chunk, step: real(self, next(iter(self._made), chunk), step)


def no_chunk_in_the_key(real):
    """As if every chunk had the same key."""

    def init(self, *args, **options):
        real(self, *args, **options)
        self._key = None

    return init


def clean_pass_as_the_last_step(real):
    return lambda self, inputs, *, step, **rest: real(self, inputs, step=step % STEPS, **rest)


@pytest.mark.parametrize(
    ("breaks", "oracle"),
    [
        (patch(LastHints, "of", any_chunk), check_chunks),
        (patch(ChunkContext, "__init__", no_chunk_in_the_key), check_chunks),
        (patch(ChunkContext, "__init__", no_chunk_in_the_key), check_references),
        (patch(ChunkContext, "_hints", clean_pass_as_the_last_step), check_clean_pass),
        (patch(chunk_module, "made_at", lambda real: lambda given, every: [0] * len(given)), check_chunks),
    ],
)
def test_hints_of_another_pass_are_noticed(tiny, monkeypatch, breaks, oracle):
    breaks(monkeypatch)
    with pytest.raises(AssertionError):
        oracle(tiny)


def test_one_set_is_held_and_counted_and_none_without_reuse(tiny):
    context, held = tiny.context(), []
    for number, every in enumerate((1, 2, 2, 1)):
        shared = made(context, number, hint_reuse=every)
        for step in range(STEPS):
            hints(tiny, shared, step)
            held.append(sorted(name for name in context.tensors() if name.startswith("hints.")))
    names = [f"hints.{layer}" for layer in LAYERS]
    assert held == [[]] * STEPS + [names] * 2 * STEPS + [[]] * STEPS
    kept = [context.tensors().get(name) for name in names]
    assert kept == [None] * len(LAYERS)
