"""References of different scales: the hint is an integral over levels, and equal scales are one pass."""

from __future__ import annotations

import pytest
import torch
from levels import close, equal, integral

from vace_adapt.context.chunk import ChunkContext
from vace_adapt.context.references import References
from vace_adapt.errors import InputError

from .conftest import FRAMES, STEPS, chunk_context, randn, references

FORMS = ["joint", "cached"]


def hints(tiny, form="cached", *, fed=True, held=None, scales=None, step=0, **scale):
    """Hints of one chunk with these references [1, ..., R, ...] of these scales."""
    context = tiny.context(form, **scale)
    context.set_references(held, scales)
    latents, nothing, given = (randn(1, c, FRAMES, 4, 6, seed=s) for c, s in ((16, 1), (96, 2), (96, 3)))
    source = chunk_context(context, given if fed else None, nothing).source(step, 0.7)
    return {} if source is None else tiny.run(latents, source)[1]


def some(held, chosen):
    """As if no others had been given: the noise belongs to the places, not to the pictures."""
    if not chosen:
        return None
    return References(held.control[:, :, chosen], held.latents[:, :, chosen], held.noise[:, :, : len(chosen)])


def given_alone(tiny, form, count):
    return lambda control, heard: hints(tiny, form, fed=control, held=some(references(count), heard))


@pytest.fixture
def passes(monkeypatch):
    """Which references every run through the context blocks had, by number."""
    seen = []
    real = ChunkContext._part
    monkeypatch.setattr(
        ChunkContext, "_part", lambda self, part, *args: seen.append(part.references) or real(self, part, *args)
    )
    return seen


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("control", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("scales", [(1.0, 0.3), (0.3, 1.0), (0.5, 0.0, 0.5), (0.2, 1.4, 0.7)])
def test_the_hint_is_the_integral_over_levels(tiny, form, control, scales):
    found = hints(tiny, form, held=references(len(scales)), scales=scales, control=control)
    assert close(found, integral(given_alone(tiny, form, len(scales)), control, scales))


@pytest.mark.parametrize("scales", [(1.0, 0.3), (0.3, 1.0), (0.2, 1.4, 0.7)])
def test_references_in_the_place_of_the_control(tiny, scales):
    found = hints(tiny, "references_only", fed=False, held=references(len(scales)), scales=scales)
    assert close(found, integral(given_alone(tiny, "references_only", len(scales)), 0.0, scales))


@pytest.mark.parametrize("form", [*FORMS, "references_only"])
@pytest.mark.parametrize("scales", [(0.0, 0.7), (0.7, 0.0)])
def test_a_reference_of_scale_zero_is_not_there_bit_for_bit(tiny, form, scales):
    fed = form != "references_only"
    kept = some(references(2), [i for i, scale in enumerate(scales) if scale])
    found = hints(tiny, form, fed=fed, held=references(2), scales=scales)
    assert equal(found, hints(tiny, form, fed=fed, held=kept, scales=(0.7,)))
    assert not equal(found, hints(tiny, form, fed=fed, held=references(2), scales=(0.7, 0.7)))
    without = hints(tiny, form, fed=fed, held=references(2), scales=(0.0, 0.0))
    assert equal(without, hints(tiny, form, fed=fed))


@pytest.mark.parametrize("form", FORMS)
def test_equal_scales_change_no_bit(tiny, form):
    held = references(2)
    plain = hints(tiny, form, held=held)
    assert equal(hints(tiny, form, held=held, scales=(1.0, 1.0)), plain)
    halved = hints(tiny, form, held=held, scales=(0.5, 0.5), control=0.5)
    assert equal(halved, {layer: hint * 0.5 for layer, hint in plain.items()})
    assert equal(hints(tiny, form, held=held, scales=(0.25, 0.25), control=0.5, references=2.0), halved)


@pytest.mark.parametrize(
    ("control", "scales", "sets"),
    [
        (1.0, (1.0, 1.0, 1.0), [(0, 1, 2)]),
        (1.0, (1.0, 0.5, 1.0), [(0, 1, 2), (0, 2)]),
        (0.0, (1.0, 0.5, 1.0), [(0, 1, 2), (0, 2)]),
        (1.0, (0.0, 0.0), [()]),
        (0.0, (0.0, 0.0), []),
        (0.75, (1.0, 0.5), [(0, 1), (0,), (0,)]),
        (2.0, (0.5, 1.0), [(0, 1), (1,), ()]),
        (0.25, (0.5, 1.0), [(0, 1), (0, 1), (1,)]),
        (0.5, (0.5, 1.0), [(0, 1), (1,)]),
        (1.5, (1.5, 0.5000000001, 0.5), [(0, 1, 2), (0,)]),
    ],
)
def test_one_pass_for_each_set_of_inputs_that_is_heard(tiny, passes, control, scales, sets):
    """The fewest there can be; scales that differ by rounding are equal."""
    hints(tiny, held=references(len(scales)), scales=scales, control=control)
    assert passes == sets


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("around", [0.0, 0.5, 1.0])
def test_hints_are_continuous_where_the_order_changes(tiny, form, around):
    """Of the first reference's scale, where it meets nothing, the other reference, and the control."""
    shift = 1e-3
    below, at, above = (
        hints(tiny, form, held=references(2), scales=(max(0.0, around + by), 0.5)) for by in (-shift, 0.0, shift)
    )
    for near in (below, above):
        assert all(torch.allclose(near[layer], at[layer], rtol=0, atol=10 * shift) for layer in at)
    assert not equal(at, above)


def test_a_chunk_keeps_the_references_and_scales_it_was_made_with(tiny):
    context = tiny.context("cached")
    context.set_references(references(2), (1.0, 0.5))
    latents, control = randn(1, 16, FRAMES, 4, 6, seed=1), randn(1, 96, FRAMES, 4, 6, seed=3)
    made = chunk_context(context, control)
    before = tiny.run(latents, made.source(0, 0.7))[1]
    context.set_references(references(1, seed=50), (0.25,))
    chunk_context(context, control)
    assert equal(tiny.run(latents, made.source(0, 0.7))[1], before)


def test_every_set_keeps_its_own_memory_in_place_and_it_is_counted(tiny):
    """The buffers stay over chunks and prompts, and go with the references."""
    context = tiny.context("cached")
    found = []
    for scales in ((1.0, 0.5), (1.0, 0.5), (1.0, 1.0)):
        if len(found) != 1:
            context.set_references(references(2), scales)
        context.set_prompt()
        for step in range(STEPS):
            made = chunk_context(context, randn(1, 96, FRAMES, 4, 6, seed=3))
            tiny.run(randn(1, 16, FRAMES, 4, 6, seed=1), made.source(step, 0.9 - 0.2 * step))
        found.append({n: (t.data_ptr(), t.shape[1]) for n, t in context.tensors().items() if "references" in n})
    assert found[0] == found[1]
    rows = [sum(rows for _, rows in buffers.values()) for buffers in found]
    both, one = (sum(rows for n, (_, rows) in found[0].items() if f"references.{s}." in n) for s in ("0,1", "0"))
    assert rows == [both + one, both + one, both]
    assert both == 2 * one > 0


def test_scales_of_another_number_of_references(tiny):
    with pytest.raises(InputError, match="1 scales are given for 2 references"):
        tiny.context().set_references(references(2), (1.0,))
