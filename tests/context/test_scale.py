from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from vace_adapt.context.blocks import ContextBlock
from vace_adapt.context.parts import parts
from vace_adapt.scale import HintScale

from .conftest import CPU, FRAMES, LAYERS, chunk_context, randn, references


def hints(tiny, form="cached", *, given_control=True, count=1, **scale):
    context = tiny.context(form, **scale)
    context.set_references(references(count) if count else None)
    latents, nothing, given = (randn(1, c, FRAMES, 4, 6, seed=s) for c, s in ((16, 1), (96, 2), (96, 3)))
    context_chunk = chunk_context(context, given if given_control else None, nothing)
    source = context_chunk.source(0, 0.7)
    return {} if source is None else tiny.run(latents, source)[1]


def equal(a, b, tolerance=0.0):
    assert a.keys() == b.keys()
    return all(torch.allclose(a[layer], b[layer], rtol=0, atol=tolerance) for layer in a)


def test_one_number_scales_every_hint(tiny):
    full, scaled = hints(tiny), hints(tiny, control=0.5, references=0.5)
    assert all(torch.equal(scaled[layer], full[layer] * 0.5) for layer in LAYERS)


def test_scale_one_changes_no_bit(tiny):
    assert equal(hints(tiny), hints(tiny, layers=(1.0, 1.0), frames=(1.0, 1.0, 1.0)))


def test_by_layer_equals_scalar_when_all_are_equal(tiny):
    assert equal(hints(tiny, layers=(0.7, 0.7)), {k: v * 0.7 for k, v in hints(tiny).items()})


def test_by_layer_leaves_out_layers_of_zero(tiny, monkeypatch):
    calls = []
    real = ContextBlock.forward
    monkeypatch.setattr(ContextBlock, "forward", lambda self, *args: calls.append(1) or real(self, *args))
    assert list(hints(tiny, count=0, layers=(1.0, 0.0))) == [0]
    assert len(calls) == 1, "no block runs past the last that is wanted"
    assert list(hints(tiny, count=0, layers=(0.0, 1.0))) == [2]


def test_by_frame(tiny):
    full, faded = hints(tiny), hints(tiny, frames=(1.0, 0.5, 0.0))
    factors = torch.tensor([1.0, 0.5, 0.0]).repeat_interleave(6)[None, :, None]
    assert all(torch.equal(faded[layer], full[layer] * factors) for layer in LAYERS)


@pytest.mark.parametrize("form", ["joint", "cached", "references_only"])
def test_a_scale_of_zero_is_the_same_as_not_giving_the_input(tiny, form):
    assert equal(hints(tiny, form, references=0.0), hints(tiny, form, count=0))
    assert equal(hints(tiny, form, control=0.0), hints(tiny, form, given_control=False))


def test_equal_scales_are_the_joint_hint_times_the_scale(tiny):
    joint = hints(tiny)
    both = hints(tiny, control=0.6, references=0.6)
    assert all(torch.equal(both[layer], joint[layer] * 0.6) for layer in LAYERS)


@pytest.mark.parametrize("form", ["joint", "cached"])
def test_unequal_scales_add_the_excess_of_the_stronger(tiny, form):
    joint, alone = hints(tiny, form), hints(tiny, form, references=0.0)
    mixed = hints(tiny, form, references=0.25)
    for layer in LAYERS:
        assert torch.allclose(mixed[layer], 0.25 * joint[layer] + 0.75 * alone[layer], atol=1e-5)


def test_scale_is_continuous_where_the_stronger_changes(tiny):
    below, above = hints(tiny, references=0.999), hints(tiny, references=1.001)
    assert equal(below, above, 0.02)


@pytest.mark.parametrize(
    ("control", "references", "expected"),
    [
        (1.0, [1.0], [(1.0, True, (0,))]),
        (1.0, [], [(1.0, True, ())]),
        (0.0, [1.0], [(1.0, False, (0,))]),
        (0.0, [], []),
        (0.0, [0.0, 0.0], []),
        (2.0, [0.5], [(0.5, True, (0,)), (1.5, True, ())]),
        (0.5, [2.0], [(0.5, True, (0,)), (1.5, False, (0,))]),
        (0.5, [0.5, 0.0, 0.5], [(0.5, True, (0, 2))]),
        (0.5, [0.25, 2.0, 1.0], [(0.25, True, (0, 1, 2)), (0.25, True, (1, 2)), (0.5, False, (1, 2)), (1.0, False, (1,))]),
        (3.0, [1.0, 2.0], [(1.0, True, (0, 1)), (1.0, True, (1,)), (1.0, True, ())]),
        (0.3, [0.1 * 3], [(0.3, True, (0,))]),
    ],
)  # fmt: skip
def test_context_passes(control, references, expected):
    assert parts(torch.tensor(control, dtype=torch.float64), references, CPU) == expected


def test_no_passes_where_no_layer_or_frame_takes_hints(tiny):
    assert hints(tiny, layers=(0.0, 0.0)) == {}
    assert hints(tiny, frames=(0.0, 0.0, 0.0)) == {}


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["control", "references"])
def test_scales_that_make_no_sense(field, value):
    with pytest.raises(ValidationError, match="a scale must be within 0..100"):
        HintScale(**{field: value})
    with pytest.raises(ValidationError, match="a scale must be within 0..100"):
        HintScale(layers=(1.0, value))
