"""Batches: shapes, noise, and what VACE is given of references, conditions and nothing."""

from __future__ import annotations

from dataclasses import replace

import batches
import pytest
import torch
from batches import EVERYTHING, KEPT, LOOKS, control_latents, draw_clips, draw_context, draw_sigma, noised, nothing
from latents import CONDITIONS, REFERENCES, Latents

CLIPS, CHANNELS, FRAMES, SIDE = 6, 16, 5, 2


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half()


LATENTS = Latents(
    video=randn(CLIPS, CHANNELS, FRAMES, SIDE, SIDE, seed=0),
    inactive=randn(CLIPS, CONDITIONS, CHANNELS, FRAMES, SIDE, SIDE, seed=1),
    reactive=randn(CLIPS, CONDITIONS, CHANNELS, FRAMES, SIDE, SIDE, seed=2),
    mask=randn(CLIPS, CONDITIONS, 64, FRAMES, SIDE, SIDE, seed=3) > 0,
    minor=randn(CLIPS, CONDITIONS, FRAMES, SIDE, SIDE, seed=6) > 0,
    references=randn(CLIPS, REFERENCES, CHANNELS, 1, SIDE, SIDE, seed=4),
    nothing=randn(CHANNELS, FRAMES, SIDE, SIDE, seed=5),
    captions=[("", "")] * CLIPS,
    names=[["", "", "", ""]] * CLIPS,
    things=[1] * CLIPS,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def exactly(references, bare=0.0):
    """Steps with so many references, and this share of clips that are given no control."""
    return replace(EVERYTHING, references=tuple(float(n == references) for n in range(4)), bare=(bare, bare))


# --- noise --------------------------------------------------------------------------------------------------------


def test_steps_take_turns():
    lengths = ((3, 5), (2, 4))
    for step, (count, frames) in enumerate(((3, 5), (2, 4), (3, 5))):
        clips, found = draw_clips(LATENTS, step, lengths, generator(step))
        assert (clips.shape, found) == ((count,), frames)
        assert 0 <= clips.min() <= clips.max() < CLIPS
    assert not torch.equal(
        draw_clips(LATENTS, 0, lengths, generator(1))[0], draw_clips(LATENTS, 0, lengths, generator(2))[0]
    )


def test_levels_are_shifted_up():
    sigma = draw_sigma(4000, generator())
    assert sigma.shape == (4000, 1)
    assert 0 <= sigma.min() < 0.05
    assert 0.95 < sigma.max() < 1
    assert abs(sigma.median() - 0.75) < 0.02
    assert abs(draw_sigma(4000, generator(), shift=1.0).median() - 0.5) < 0.02


def test_noised_latents_are_on_the_straight_path():
    clean = LATENTS.video[:2].float()
    sigma = torch.tensor([[0.0, 0.2, 0.5, 0.9, 1.0]]).repeat(2, 1)
    made = noised(clean, sigma, generator())
    assert made.latents.shape == made.target.shape == clean.shape
    assert torch.equal(made.latents[:, :, 0], clean[:, :, 0])
    back = made.latents - sigma[:, None, :, None, None] * made.target
    assert torch.allclose(back, clean, atol=1e-6)
    noise = made.latents[:, :, -1]
    assert torch.allclose(made.target[:, :, -1], noise - clean[:, :, -1], atol=1e-6)
    assert 0.7 < noise.std() < 1.3


# --- what is given ------------------------------------------------------------------------------------------------


def has_references_in_front(count):
    """With their latents among the inactive channels, and nothing reactive or masked."""
    clips = torch.tensor([4, 1, 1, 0])
    clean, control, _, found = draw_context(LATENTS, clips, 4, exactly(count), generator())
    assert found == count
    assert clean.shape == (4, CHANNELS, count + 4, SIDE, SIDE)
    assert control.shape == (4, 96, count + 4, SIDE, SIDE)
    assert clean.dtype == control.dtype == torch.float32
    assert torch.equal(clean[:, :, count:], LATENTS.video[clips, :, :4].float())
    assert torch.equal(control[:, :CHANNELS, :count], clean[:, :, :count])
    assert not control[:, CHANNELS:, :count].any()
    for row, clip in enumerate(clips.tolist()):
        own = [one.squeeze(1).float() for one in LATENTS.references[clip]]
        taken = [[torch.equal(given, one) for one in own].index(True) for given in clean[row, :, :count].unbind(1)]
        assert len(set(taken)) == count, "each once"


@pytest.mark.parametrize("count", range(4))
def test_references_lie_in_front(count):
    has_references_in_front(count)


def test_references_under_a_mask_are_noticed(monkeypatch):
    monkeypatch.setattr(batches.torch, "zeros", torch.ones)
    with pytest.raises(AssertionError):
        has_references_in_front(2)


def condition_numbers(control, clips, frames):
    """Which of its clip's conditions each row is given."""
    found = []
    for row, clip in enumerate(clips.tolist()):
        numbers = torch.arange(CONDITIONS)
        all_of_them = control_latents(LATENTS, torch.full((CONDITIONS,), clip), numbers, frames)
        found.append([torch.equal(control[row], one) for one in all_of_them].index(True))
    return found


def test_each_clip_is_given_one_of_its_conditions():
    clips = torch.arange(CLIPS)
    found = []
    for seed in range(4):
        control = draw_context(LATENTS, clips, 3, exactly(0), generator(seed)).control
        found += condition_numbers(control, clips, 3)
    assert set(found) == set(range(CONDITIONS))
    with pytest.raises(ValueError, match="True is not in list"):
        condition_numbers(control, clips.flip(0), 3)


@pytest.mark.parametrize("count", [0, 2])
def test_the_minor_part_is_that_of_the_same_condition(count):
    clips = torch.arange(CLIPS)
    given = draw_context(LATENTS, clips, 3, exactly(count), generator())
    numbers = condition_numbers(given.control[:, :, count:], clips, 3)
    assert torch.equal(given.minor, LATENTS.minor[clips, numbers, :3])


def test_control_latents_are_inactive_reactive_and_mask():
    control = control_latents(LATENTS, torch.tensor([2, 0]), torch.tensor([3, 1]), 4)
    assert control.shape == (2, 96, 4, SIDE, SIDE)
    for row, (clip, chosen) in enumerate(((2, 3), (0, 1))):
        assert torch.equal(control[row, :16], LATENTS.inactive[clip, chosen, :, :4].float())
        assert torch.equal(control[row, 16:32], LATENTS.reactive[clip, chosen, :, :4].float())
        assert torch.equal(control[row, 32:], LATENTS.mask[clip, chosen, :, :4].float())


def test_nothing_is_two_gray_videos_and_a_mask_of_ones():
    given = nothing(LATENTS, 3)
    assert given.shape == (96, 3, SIDE, SIDE)
    gray = LATENTS.nothing[:, :3].float()
    assert torch.equal(given[:16], gray)
    assert torch.equal(given[16:32], gray)
    assert (given[32:] == 1).all()


@pytest.mark.parametrize("count", [0, 2])
def test_some_clips_are_given_nothing(count):
    _, control, minor, _ = draw_context(LATENTS, torch.arange(CLIPS), 4, exactly(count, bare=1.0), generator())
    assert all(torch.equal(row[:, count:], nothing(LATENTS, 4)) for row in control)
    assert not minor.any()


def shares(mix, steps=300):
    """Of steps with each number of references, and of clips that are given nothing without and with them."""
    bare, counts, empty = {False: [], True: []}, [0, 0, 0, 0], nothing(LATENTS, 1)
    for seed in range(steps):
        _, control, _, count = draw_context(LATENTS, torch.arange(CLIPS), 1, mix, generator(seed))
        counts[count] += 1
        bare[count > 0] += [torch.equal(row[:, count:], empty) for row in control]
    return [n / steps for n in counts], [sum(bare[with_them]) / len(bare[with_them]) for with_them in (False, True)]


@pytest.mark.parametrize("mix", [EVERYTHING, LOOKS, KEPT])
def test_shares_are_as_written(mix):
    counts, bare = shares(mix)
    assert counts == pytest.approx(mix.references, abs=0.07)
    assert bare == pytest.approx(mix.bare, abs=0.06)
