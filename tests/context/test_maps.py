"""Control scales that differ over the picture."""

from __future__ import annotations

import pytest
import torch
from levels import at_tokens, close, equal

from vace_adapt.context.chunk import ChunkContext, _scaled
from vace_adapt.errors import InputError

from .conftest import FRAMES, GRID, STEPS, chunk_context, randn, references

SHAPE = (1, FRAMES, *GRID)


def hints(tiny, factors=None, form="cached", *, fed=True, scales=(), step=0, **scale):
    context = tiny.context(form, **scale)
    context.set_references(references(len(scales)) if scales else None, scales)
    latents, nothing, given = (randn(1, c, FRAMES, 4, 6, seed=s) for c, s in ((16, 1), (96, 2), (96, 3)))
    made = chunk_context(context, given if fed else None, nothing, control_factors=factors)
    source = made.source(step, 0.7)
    return {} if source is None else tiny.run(latents, source)[1]


@pytest.fixture
def passes(monkeypatch):
    """Factors of every run through the context blocks."""
    seen = []
    real = ChunkContext._part
    monkeypatch.setattr(
        ChunkContext, "_part", lambda self, part, *args: seen.append(part.factor) or real(self, part, *args)
    )
    return seen


@pytest.mark.parametrize("form", ["joint", "cached"])
@pytest.mark.parametrize("scales", [(), (1.0,), (0.5, 1.5), (1.5, 0.5, 1.0)])
def test_every_token_has_the_hint_of_its_own_scale(tiny, form, scales):
    values = (0.0, 0.25, 1.0, 2.0)
    chosen = torch.randint(0, 4, SHAPE, generator=torch.Generator().manual_seed(0))
    found = hints(tiny, torch.tensor(values)[chosen][None], form, scales=scales)
    for i, value in enumerate(values):
        tokens = (chosen == i).flatten()
        whole = hints(tiny, None, form, scales=scales, control=value)
        expected = whole or {layer: torch.zeros_like(hint) for layer, hint in found.items()}
        assert tokens.any()
        assert close(at_tokens(found, tokens), at_tokens(expected, tokens)), value


def test_ones_and_zeros_are_hints_and_none_bit_for_bit(tiny):
    there = torch.arange(18).reshape(SHAPE) % 3 == 0
    found, full = hints(tiny, there[None].float()), hints(tiny)
    tokens = there.flatten()
    assert equal(at_tokens(found, tokens), at_tokens(full, tokens))
    assert all((hint == 0).all() for hint in at_tokens(found, ~tokens).values())


@pytest.mark.parametrize("scales", [(), (1.0,), (0.4, 1.0)])
@pytest.mark.parametrize("control", [1.0, 0.6])
def test_a_map_of_ones_is_no_map_bit_for_bit(tiny, passes, control, scales):
    plain = hints(tiny, scales=scales, control=control)
    before, passes[:] = list(passes), []
    assert equal(hints(tiny, torch.ones(1, *SHAPE), scales=scales, control=control), plain)
    assert passes == before, "plain numbers, no maps"


def test_a_map_gives_the_bits_of_a_number_in_half_precision():
    """What the map says of a token is not rounded to the hints' dtype."""
    hint = randn(1, 18, 8, seed=4).bfloat16()
    by_token = torch.full((1, 18, 1), 0.3)
    assert torch.equal(_scaled(hint, by_token), hint * 0.3)
    assert _scaled(hint, by_token).dtype == torch.bfloat16


def test_passes_of_zero_everywhere_are_not_run(tiny, passes):
    maps = torch.full((1, *SHAPE), 0.5)
    maps[..., 0] = 0.25
    hints(tiny, maps, scales=(0.5,))
    assert len(passes) == 2, "with the control, and the references alone where it is weaker"
    assert passes[0].shape == (1, 18, 1)
    assert torch.equal(passes[0] + passes[1], torch.full((1, 18, 1), 0.5))
    passes.clear()
    hints(tiny, maps, scales=(0.25,))
    assert passes[0] == 0.25, "a number where all tokens agree"
    assert len(passes) == 2
    passes.clear()
    hints(tiny, torch.zeros(1, *SHAPE), scales=(0.5,))
    assert passes == [0.5]


def test_a_map_of_zeros_is_no_control(tiny):
    zeros = torch.zeros(1, *SHAPE)
    assert hints(tiny, zeros) == {}
    assert equal(hints(tiny, zeros, scales=(1.0,)), hints(tiny, fed=False, scales=(1.0,)))


def test_a_map_for_each_step(tiny):
    maps = torch.rand((STEPS, *SHAPE), generator=torch.Generator().manual_seed(3))
    maps[1] = 0
    for step in range(STEPS):
        found = hints(tiny, maps, scales=(0.5,), step=step)
        assert equal(found, hints(tiny, maps[step : step + 1], scales=(0.5,), step=step))
    assert hints(tiny, maps, step=1) == {}
    assert equal(hints(tiny, maps, step=-1), hints(tiny, maps[-1:], step=-1)), "clean passes have the last step's"


def test_rows_of_a_batch_have_their_own_map(tiny):
    context = tiny.context()
    latents, given = randn(2, 16, FRAMES, 4, 6, seed=1), randn(2, 96, FRAMES, 4, 6, seed=3)
    maps = torch.stack([torch.zeros(SHAPE[1:]), torch.ones(SHAPE[1:])])[None]
    tiny_two = type(tiny)(tiny.model, tiny.path, tiny.embeds.expand(2, -1, -1))
    full, found = (
        tiny_two.run(latents, chunk_context(context, given, control_factors=factors).source(0, 0.7))[1]
        for factors in (None, maps)
    )
    for layer, hint in found.items():
        assert (hint[0] == 0).all()
        assert torch.equal(hint[1], full[layer][1])


@pytest.mark.parametrize(
    ("factors", "text"),
    [
        (torch.ones(1, 1, 3, 2, 2), "control factors of chunk 0 are [1, 1, 3, 2, 2], expected [1 or 4, 1, 3, 2, 3]"),
        (torch.ones(3, 1, 3, 2, 3), "control factors of chunk 0 are [3, 1, 3, 2, 3], expected [1 or 4, 1, 3, 2, 3]"),
        (torch.ones(3, 2, 3), "control factors of chunk 0 are [3, 2, 3], expected [1 or 4, 1, 3, 2, 3]"),
        (torch.full((1, *SHAPE), -1.0), "control factors of chunk 0 must be within 0..100, not -1.0..-1.0"),
        (torch.full((1, *SHAPE), 101.0), "control factors of chunk 0 must be within 0..100, not 101.0..101.0"),
        (torch.full((1, *SHAPE), torch.nan), "control factors of chunk 0 must be within 0..100, not nan..nan"),
    ],
)
def test_maps_that_do_not_fit(tiny, factors, text):
    with pytest.raises(InputError) as caught:
        hints(tiny, factors)
    assert str(caught.value) == text
