"""The own UniPC against results of the official solver, and against its own order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vace_adapt_framepack import solver
from vace_adapt_framepack.solver import UniPc, framepack_solver, shifted

PINNED = {
    4: [0.4050645160169208, 0.17166920516422576],
    7: [0.5145946181602151, 0.7866246912842106],
    25: [0.5620640351629574, 0.9124085669687604],
}
"""Made by lllyasviel/FramePack diffusers_helper/k_diffusion/uni_pc_fm.py at commit 97fe5db from 0.7 and -1.3."""


def run(steps, *, unipc=UniPc):
    found = unipc(shifted(np.linspace(1.0, 0.0, steps + 1)[:-1], 1.0))
    x = torch.tensor([0.7, -1.3], dtype=torch.float64)
    for step, (_, sigma) in enumerate(found.levels):
        clean = torch.cos(2 * x) * (1.2 - sigma)
        x = found.step(step, (x - clean) / sigma, x)
    return x


@pytest.mark.parametrize("steps", PINNED)
def test_equals_the_official_solver(steps):
    assert torch.allclose(run(steps), torch.tensor(PINNED[steps], dtype=torch.float64), atol=1e-12, rtol=0)


class Second(UniPc):
    ORDER = 2


def test_another_order_is_seen():
    assert float((run(7, unipc=Second) - torch.tensor(PINNED[7])).abs().max()) > 1e-4


def test_weights_of_another_kind_are_seen(monkeypatch):
    monkeypatch.setattr(solver, "_weights", lambda ratios, h: [0.5] * len(ratios))
    assert float((run(7) - torch.tensor(PINNED[7])).abs().max()) > 1e-4


def test_a_section_does_not_feel_the_one_before():
    found = UniPc([1.0, 0.6, 0.3])
    flow, noisy = torch.ones(2), torch.tensor([0.5, 2.0])
    made = []
    for _ in range(2):
        found.begin()
        x = noisy
        for step in range(3):
            x = found.step(step, flow * (step + 1), x)
        made.append(x)
    assert torch.equal(*made)


def test_the_shift_ends_at_seven():
    levels = framepack_solver(25, 14040).levels
    sigma = 1 - 1 / 25
    assert levels[1].sigma == pytest.approx(7 * sigma / (1 + 6 * sigma))
    assert framepack_solver(25, 14040, strength=0.5).levels[0].sigma == pytest.approx(0.5)
