"""The forms of references: what each sees, what is remembered, and that remembering changes no bit."""

from __future__ import annotations

import pytest
import torch

from vace_adapt.context import references as references_module
from vace_adapt.context.blocks import ContextBlock, ContextPath
from vace_adapt.errors import InputError

from .conftest import FRAMES, LAYERS, chunk_context, randn, references

TOKENS = 6


def chunk(seed: int):
    return randn(1, 16, FRAMES, 4, 6, seed=seed), randn(1, 96, FRAMES, 4, 6, seed=100 + seed)


def passes(tiny, context, chunks=4, steps=2):
    """Hints of every pass of a few chunks."""
    found = []
    for i in range(chunks):
        latents, control = chunk(i)
        context_chunk = chunk_context(context, control)
        for step in range(steps):
            timestep = 900.0 - 300 * step
            found.append(tiny.run(latents, context_chunk.source(step, timestep / 1000), timestep)[1])
    return found


def assert_local(tiny, path, form, count):
    """With the mixing between tokens switched off, a change of control latent i can be seen in hint frame i alone."""
    for block in path.vace_blocks:
        torch.nn.init.zeros_(block.attn1.to_out[0].weight)
        torch.nn.init.zeros_(block.attn1.to_out[0].bias)
    context = tiny.context(form)
    context.path = path
    if count:
        context.set_references(references(count))
    latents, control = chunk(0)
    before = tiny.run(latents, chunk_context(context, control).source(0, 0.7))[1]
    for i in range(FRAMES):
        changed = control.clone()
        changed[:, :, i] += 1
        after = tiny.run(latents, chunk_context(context, changed).source(0, 0.7))[1]
        for layer in LAYERS:
            moved = (after[layer] - before[layer]).unflatten(1, (FRAMES, TOKENS)).abs().amax(dim=(0, 2, 3)) > 0
            assert moved.tolist() == [frame == i for frame in range(FRAMES)]


@pytest.mark.parametrize("form", ["joint", "cached"])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_control_latent_i_moves_hint_frame_i_only(tiny, fresh_path, form, count):
    assert_local(tiny, fresh_path, form, count)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_oracle_notices_hints_of_another_frame(tiny, fresh_path, monkeypatch, count):
    """The shift that putting references into the latents causes elsewhere: control one frame off."""
    real = ContextPath.entry
    monkeypatch.setattr(ContextPath, "entry", lambda self, control: real(self, control.roll(1, dims=2)))
    with pytest.raises(AssertionError):
        assert_local(tiny, fresh_path, "cached", count)


def test_cached_equals_recomputing_the_reference_rows_bit_for_bit(tiny, monkeypatch):
    remembering = tiny.context("cached")
    remembering.set_references(references(2))
    kept = passes(tiny, remembering)

    recomputing = tiny.context("cached")
    recomputing.set_references(references(2))

    def recomputed(self, step, *args, **rest):
        self._compute(step, *args)
        return self._memory[step]

    monkeypatch.setattr(references_module.ReferenceRows, "remembered", recomputed)
    anew = passes(tiny, recomputing)
    for a, b in zip(kept, anew, strict=True):
        assert all(torch.equal(a[layer], b[layer]) for layer in LAYERS)


@pytest.fixture
def rows_seen(monkeypatch):
    """Number of rows of every call of a context block."""
    seen: list[int] = []
    real = ContextBlock.forward

    def counted(self, hidden_states, *args):
        seen.append(hidden_states.shape[1])
        return real(self, hidden_states, *args)

    monkeypatch.setattr(ContextBlock, "forward", counted)
    return seen


def test_nothing_of_the_reference_path_runs_after_the_first_chunk(tiny, rows_seen, monkeypatch):
    context = tiny.context("cached")
    context.set_references(references(2))
    passes(tiny, context, chunks=1, steps=2)
    per_chunk = 2 * len(LAYERS)
    assert rows_seen.count(2 * TOKENS) == per_chunk, "once for each step and layer"
    rows_seen.clear()
    monkeypatch.setattr(references_module.ReferenceRows, "at", None)
    passes(tiny, context, chunks=3, steps=2)
    assert rows_seen == [FRAMES * TOKENS] * 3 * per_chunk


def test_a_new_prompt_makes_the_reference_rows_anew(tiny, rows_seen):
    context = tiny.context("cached")
    context.set_references(references(1))
    before = passes(tiny, context, chunks=1)
    rows_seen.clear()
    context.set_prompt()
    after = passes(tiny, context, chunks=1)
    assert rows_seen.count(TOKENS) == 2 * len(LAYERS)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(before, after, strict=True)), "the prompt did not really change"


def test_new_references_are_felt_and_old_ones_forgotten(tiny):
    context = tiny.context("cached")
    context.set_references(references(1, seed=5))
    first = passes(tiny, context, chunks=1)
    context.set_references(references(1, seed=50))
    second = passes(tiny, context, chunks=1)
    context.set_references(references(1, seed=5))
    third = passes(tiny, context, chunks=1)
    assert not torch.equal(first[0][2], second[0][2])
    assert all(torch.equal(a[layer], b[layer]) for a, b in zip(first, third, strict=True) for layer in LAYERS)


def test_buffers_stay_the_same_over_chunks_and_prompts(tiny):
    context = tiny.context("cached")
    context.set_references(references(2))
    passes(tiny, context, chunks=1)
    pointers = {name: tensor.data_ptr() for name, tensor in context.tensors().items()}
    context.set_prompt()
    passes(tiny, context, chunks=3)
    assert {name: tensor.data_ptr() for name, tensor in context.tensors().items()} == pointers


@pytest.mark.parametrize("form", ["joint", "cached"])
def test_each_reference_is_felt(tiny, form):
    def hints(held):
        context = tiny.context(form)
        context.set_references(held)
        return passes(tiny, context, chunks=1, steps=1)[0][LAYERS[-1]]

    both, swapped = references(2), references(2)
    swapped = type(both)(both.control.flip(2), both.latents.flip(2), both.noise.flip(2))
    one = type(both)(both.control[:, :, :1], both.latents[:, :, :1], both.noise[:, :, :1])
    assert len({hints(held).sum().item() for held in (both, swapped, one)}) == 3


def test_joint_and_cached_agree_in_the_first_layer_and_differ_behind_it(tiny):
    """In block 0 reference rows are what they are; from there on `joint` lets them look at the chunk."""
    found = {}
    for form in ("joint", "cached"):
        context = tiny.context(form)
        context.set_references(references(1))
        found[form] = passes(tiny, context, chunks=1, steps=1)[0]
    assert torch.allclose(found["joint"][0], found["cached"][0], atol=1e-5)
    assert not torch.allclose(found["joint"][2], found["cached"][2], atol=1e-3)


def test_references_only_shows_the_references_at_the_chunks_own_places(tiny):
    held = references(2)
    latents, nothing = chunk(0)
    context = tiny.context("references_only")
    context.set_references(held)
    context_chunk = chunk_context(context, None, nothing)
    plain = tiny.context()
    shown = torch.cat([held.control, nothing[:, :, 2:]], dim=2)
    plain_chunk = chunk_context(plain, shown, nothing)
    ours = tiny.run(latents, context_chunk.source(0, 0.7))[1]
    expected = tiny.run(latents, plain_chunk.source(0, 0.7))[1]
    assert all(torch.equal(ours[layer], expected[layer]) for layer in LAYERS)


def test_references_only_refuses_what_it_has_no_place_for(tiny):
    context = tiny.context("references_only")
    with pytest.raises(InputError, match="reference_form=references_only has no place for a control"):
        context.check(control=True, references=1, frames=3)
    with pytest.raises(InputError, match="has 3 places in a chunk, not 4"):
        context.check(control=False, references=4, frames=3)
    context.check(control=True, references=0, frames=3)
    tiny.context("joint").check(control=True, references=9, frames=3)
