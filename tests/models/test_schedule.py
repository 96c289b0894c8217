from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchLCMScheduler

from vace_adapt.errors import InputError
from vace_adapt.models.schedule import FewStepSchedule

CPU = torch.device("cpu")
OFFICIAL = [1000, 750, 500, 250]


def schedule(steps=OFFICIAL, shift=5.0, warp=True):
    return FewStepSchedule(steps, shift=shift, warp=warp, device=CPU)


def test_official_steps():
    assert schedule().timesteps == [1000.0, 937.5, 833.3333129882812, 625.0]
    assert schedule(warp=False).timesteps == [1000.0, 750.0, 500.0, 250.0]


def test_trajectory_equals_diffusers_lcm_scheduler():
    ours, theirs = schedule(), FlowMatchLCMScheduler(shift=5.0)
    theirs.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    x = y = torch.randn(1, 16, 3, 4, 4)
    for step, sigma in enumerate(ours.sigmas):
        flow = torch.sin(3 * x)
        torch.manual_seed(step)
        y = theirs.step(flow, theirs.timesteps[step], y, return_dict=False)[0]
        clean = ours.clean(x, flow, sigma)
        if step + 1 < len(ours):
            torch.manual_seed(step)
            x = ours.renoise(clean, torch.randn_like(x), ours.sigmas[step + 1])
            assert torch.allclose(x, y, atol=1e-6)
    assert torch.allclose(clean, y, atol=1e-6)


def test_timestep_zero_has_the_last_noise_level_of_the_table():
    assert schedule().sigma(0) == pytest.approx(0.004980, abs=1e-5)


def test_half_precision_comes_back_in_half_precision():
    noisy, flow = torch.randn(2, 4).bfloat16(), torch.randn(2, 4).bfloat16()
    assert schedule().clean(noisy, flow, 0.5).dtype == torch.bfloat16
    assert schedule().renoise(noisy, flow, 0.5).dtype == torch.bfloat16
    assert schedule().tensor(937.5, 2).tolist() == [937.5, 937.5], "bfloat16 would make it 936"


@pytest.mark.parametrize("steps", [[], [500, 750], [500, 500], [1001], [0], [-1]])
def test_steps_that_make_no_sense(steps):
    with pytest.raises(InputError, match=r"denoise steps must decrease within \(0, 1000\]"):
        schedule(steps)


def test_warped_steps_are_whole():
    with pytest.raises(InputError, match="to be warped must be whole numbers"):
        schedule([937.5])
