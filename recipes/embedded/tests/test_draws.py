"""Batches of portraits: one reference in front, a control that shows no colours or nothing, and turns."""

from __future__ import annotations

from dataclasses import replace

import base
import draws
import pytest
import torch
from batches import KEPT
from draws import PLACED, Batch, in_turn, mixed, portrayed
from latents import CONDITIONS, REFERENCES, Latents
from portraits import Portraits
from text import Prompts, new_text_encoder

CLIPS, CHANNELS, FRAMES, SIDE = 4, 16, 5, 2
LENGTHS = ((40, 3), (6, 5))


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half()


LATENTS = Latents(
    video=randn(1, CHANNELS, FRAMES, SIDE, SIDE, seed=0),
    inactive=randn(1, CONDITIONS, CHANNELS, FRAMES, SIDE, SIDE, seed=1),
    reactive=randn(1, CONDITIONS, CHANNELS, FRAMES, SIDE, SIDE, seed=2),
    mask=randn(1, CONDITIONS, 64, FRAMES, SIDE, SIDE, seed=3) > 0,
    minor=randn(1, CONDITIONS, FRAMES, SIDE, SIDE, seed=10) > 0.5,
    references=randn(1, REFERENCES, CHANNELS, 1, SIDE, SIDE, seed=4),
    nothing=randn(CHANNELS, FRAMES, SIDE, SIDE, seed=5),
    captions=[("", "")],
    names=[["", "", "", ""]],
    things=[1],
)
PORTRAITS = Portraits(
    video=randn(CLIPS, CHANNELS, FRAMES, SIDE, SIDE, seed=6),
    control=randn(CLIPS, CHANNELS, FRAMES, SIDE, SIDE, seed=7),
    references=randn(CLIPS, CHANNELS, 1, SIDE, SIDE, seed=8),
    area=randn(CLIPS, FRAMES, SIDE, SIDE, seed=9) > 0,
    captions=[("a red ball on navy waves", "a ball on navy waves")] * CLIPS,
)


@pytest.fixture
def draw(monkeypatch):
    monkeypatch.setattr(draws, "PORTRAIT_LENGTHS", LENGTHS)
    encoder = new_text_encoder(Prompts(PORTRAITS.captions).words)
    return portrayed(PORTRAITS, LATENTS, encoder)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def number_of(latents):
    """Which portrait a video [C, F, h, w] is of."""
    return next(i for i, video in enumerate(PORTRAITS.video) if torch.equal(video[:, : latents.shape[1]], latents))


def is_a_batch_of_portraits(batch):
    clips, frames = LENGTHS[0]
    assert batch.clean.shape == (clips, CHANNELS, 1 + frames, SIDE, SIDE)
    assert batch.control.shape == (clips, 96, 1 + frames, SIDE, SIDE)
    assert batch.area.shape == (clips, frames, SIDE, SIDE)
    gray = LATENTS.nothing[:, :frames]
    steered = 0
    everything = zip(batch.clean.half(), batch.control.half(), batch.area, batch.sigma, strict=True)
    for clean, control, area, sigma in everything:
        number = number_of(clean[:, 1:])
        reference = PORTRAITS.references[number]
        assert torch.equal(clean[:, :1], reference)
        assert torch.equal(control[:CHANNELS, :1], reference)
        assert not control[CHANNELS:, 0].any()
        assert torch.equal(control[:CHANNELS, 1:], gray)
        assert (control[32:, 1:] == 1).all()
        shown = torch.equal(control[CHANNELS:32, 1:], PORTRAITS.control[number, :, :frames])
        assert shown or torch.equal(control[CHANNELS:32, 1:], gray)
        steered += shown
        assert torch.equal(area, PORTRAITS.area[number, :frames] & (shown or sigma < PLACED))
    assert 0.4 < steered / clips < 0.9
    assert batch.sigma.shape == (clips, 1)
    assert 0.7 < batch.sigma.median() < 0.95
    assert batch.references == 1
    assert batch.kind == "portraits"


def test_portraits_are_given_their_own_reference(draw):
    is_a_batch_of_portraits(draw(0, generator()))


@pytest.mark.parametrize("wrong", ["references", "control", "area"])
def test_what_belongs_to_another_clip_is_noticed(draw, wrong):
    batch = draw(0, generator())
    changed = {
        "references": {"clean": torch.cat([batch.clean[:, :, :1].roll(1, 0), batch.clean[:, :, 1:]], dim=2)},
        "control": {"control": batch.control.roll(1, 0)},
        "area": {"area": ~batch.area},
    }[wrong]
    with pytest.raises(AssertionError):
        is_a_batch_of_portraits(batch._replace(**changed))


def test_steps_take_turns(draw):
    other = Batch(*draw(1, generator())[:3], text=torch.zeros(6, 1, 4), sigma=torch.ones(6, 1), kind="")
    seen = []

    def second(step, given):
        seen.append(step)
        return other

    turns = in_turn(draw, draw, second)
    lengths = [turns(step, generator()).clean.shape[2] - 1 for step in range(6)]
    assert lengths == [3, 3, 5, 5, 5, 5]
    assert seen == [0, 1]


@pytest.mark.parametrize("count", [0, 2])
def test_the_smaller_part_counts_once_more_in_every_clip(count):
    only = tuple(float(n == count) for n in range(4))
    mix = replace(KEPT, references=only, bare=(0.3, 0.3), lengths=((12, FRAMES),))
    batch = mixed(LATENTS, mix, new_text_encoder(Prompts(LATENTS.captions).words))(0, generator(1))
    assert batch.kind == ("with_references" if count else "loss")
    parts = [part / part.sum() for part in LATENTS.minor[0]]
    found = [next((n for n, part in enumerate(parts) if torch.equal(row, part)), None) for row in batch.area]
    empty = [not row.any() for row in batch.area]
    assert [number is None for number in found] == empty
    assert 0 < sum(empty) < len(empty)
    assert len(set(found)) > 2
    assert mixed(LATENTS, replace(mix, minor=False), new_text_encoder(20))(0, generator()).area is None


def test_clips_share_alike_however_large_their_parts():
    made, target = torch.zeros(2, 3, 2, 2, 2), torch.ones(2, 3, 2, 2, 2)
    target[1] = 3.0
    area = torch.zeros(2, 2, 2, 2)
    area[0, 0, 0, 0], area[1] = 1.0, 1 / 8
    assert float(base.squared_within(made, target, area)) == pytest.approx((1 + 9) / 2)


def test_the_error_in_an_area_is_its_mean_there():
    made, target = torch.zeros(2, 3, 3, 2, 2), torch.ones(2, 3, 3, 2, 2)
    target[:, :, 0] = 9.0
    target[1, :, 2, 1, 1] = 3.0
    area = torch.zeros(2, 2, 2, 2, dtype=torch.bool)
    area[0, 0, 0, 0] = area[1, 1, 1, 1] = True
    assert float(base.squared_within(made, target, area)) == pytest.approx((1 + 9) / 2)
