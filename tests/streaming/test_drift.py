"""The measure of drift against plain numpy, and in the report of every chunk."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support import opened, patch

from vace_adapt.streaming import drift as drift_module
from vace_adapt.streaming.drift import SMALLEST_STD, Drift, Statistics


def expected(first: np.ndarray, latents: np.ndarray) -> list[float]:
    """The declared formula, in float64."""
    drifts = []
    for row in range(len(latents)):
        moved = []
        for channel in range(latents.shape[1]):
            before, now = first[row, channel].astype(np.float64), latents[row, channel].astype(np.float64)
            std0, std = max(before.std(), SMALLEST_STD), max(now.std(), SMALLEST_STD)
            moved.append(abs(now.mean() - before.mean()) / std0 + abs(math.log(std / std0)))
        drifts.append(max(moved))
    return drifts


def chunks(count: int = 4) -> list[torch.Tensor]:
    """Latents of two rows, whose channels wander each in its own way; one channel stands still."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for index in range(count):
        latents = torch.randn((2, 5, 3, 4, 6), generator=generator)
        gain = 1 + 0.3 * index * torch.randn((2, 5, 1, 1, 1), generator=generator).abs()
        latents = latents * gain + 0.4 * index * torch.randn((2, 5, 1, 1, 1), generator=generator)
        latents[:, 4] = 0.25
        made.append(latents)
    return made


def the_formula_holds() -> None:
    measure, made = Drift(), chunks()
    for latents in made:
        np.testing.assert_allclose(measure(latents), expected(made[0].numpy(), latents.numpy()), rtol=1e-4, atol=1e-6)


def test_the_formula_against_numpy():
    the_formula_holds()


def test_units():
    """A half of a deviation of the mean is 0.5; a deviation that grows or shrinks by exp(0.5) is 0.5."""
    latents = chunks(1)[0][:, :4]
    for change, drift in (
        (lambda x: x, 0.0),
        (lambda x: x + 0.5 * x.std(dim=(2, 3, 4), correction=0, keepdim=True), 0.5),
        (
            lambda x: (x - x.mean(dim=(2, 3, 4), keepdim=True)) * math.exp(0.5) + x.mean(dim=(2, 3, 4), keepdim=True),
            0.5,
        ),
        (
            lambda x: (x - x.mean(dim=(2, 3, 4), keepdim=True)) / math.exp(0.5) + x.mean(dim=(2, 3, 4), keepdim=True),
            0.5,
        ),
    ):
        measure = Drift()
        assert measure(latents) == (0.0, 0.0)
        assert measure(change(latents)) == pytest.approx((drift, drift), abs=1e-4)


def test_a_channel_that_is_constant_has_no_endless_drift():
    measure = Drift()
    measure(torch.zeros(1, 2, 1, 4, 4))
    assert measure(torch.full((1, 2, 1, 4, 4), 0.001)) == pytest.approx((1.0,))


def test_latents_brought_onto_other_statistics_have_them():
    first, latents = chunks(2)
    brought = Statistics.of(latents).onto(latents, Statistics.of(first))
    measure = Drift()
    measure(first[:, :4])
    assert max(measure(brought[:, :4])) < 1e-4
    assert max(measure(latents[:, :4])) > 0.1
    assert Statistics.of(latents.half()).onto(latents.half(), Statistics.of(first)).dtype == torch.float16


def mean_over_channels(real):
    def measure(self, latents):
        own = Statistics.of(latents)
        self.first = self.first or own
        moved = (own.mean - self.first.mean).abs() / self.first.std + (own.std / self.first.std).log().abs()
        return tuple(moved.mean(dim=(1, 2, 3, 4)).tolist())

    return measure


def without_contrast(real):
    def measure(self, latents):
        own = Statistics.of(latents)
        self.first = self.first or own
        return tuple(((own.mean - self.first.mean).abs() / self.first.std).amax(dim=(1, 2, 3, 4)).tolist())

    return measure


def of_both_rows(real):
    """Statistics that mix the rows."""

    def of(latents):
        own = real(latents)
        return Statistics(own.mean.mean(dim=0, keepdim=True).expand_as(own.mean), own.std)

    return of


def of_the_last_frame(real):
    return lambda latents: real(latents[:, :, -1:])


def always_from_the_last_chunk(real):
    def measure(self, latents):
        drift = real(self, latents)
        self.first = Statistics.of(latents)
        return drift

    return measure


MUTANTS = {
    "the mean over the channels": patch(Drift, "__call__", mean_over_channels),
    "without the contrast": patch(Drift, "__call__", without_contrast),
    "from chunk to chunk": patch(Drift, "__call__", always_from_the_last_chunk),
    "rows mixed": patch(Statistics, "of", of_both_rows),
    "one frame for all": patch(Statistics, "of", of_the_last_frame),
    "a larger least deviation": patch(drift_module, "SMALLEST_STD", lambda real: 2.0),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_of_the_formula_is_caught(mutant, monkeypatch):
    MUTANTS[mutant](monkeypatch)
    with pytest.raises(AssertionError):
        the_formula_holds()


def test_every_report_has_the_drift_of_its_rows(pipe):
    with opened(pipe, seed=[0, 1], num_frames=33) as session:
        made = list(session)
    first = made[0].latents.numpy()
    assert made[0].report.drift == (0.0, 0.0)
    for chunk in made:
        np.testing.assert_allclose(chunk.report.drift, expected(first, chunk.latents.numpy()), rtol=1e-4, atol=1e-6)
    assert all(drift > 0.01 for drift in made[2].report.drift)
    assert not any(chunk.report.reanchored for chunk in made)
