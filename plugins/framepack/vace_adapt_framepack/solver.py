"""Solvers of the flow from noise to latents: diffusers' schedulers, run one section at a time.

The schedule is fixed before the first step and kept on the CPU, so that no step waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler
from diffusers.schedulers.scheduling_helios import HeliosScheduler
from torch import Tensor



class Level(NamedTuple):
    """One denoise step: the timestep that the model gets and the noise level in (0, 1]."""

    timestep: float
    sigma: float


class FlowSolver:
    """A scheduler of one stream. It holds what its earlier steps in a section gave.

    Args:
        scheduler: of diffusers, predicting flow.
        arguments: of its ``set_timesteps``.

    Attributes:
        levels: the steps of every section.
    """

    def __init__(self, scheduler: Any, arguments: dict[str, Any]) -> None:
        self._scheduler = scheduler
        self._arguments = arguments
        self.begin()
        timesteps, sigmas = scheduler.timesteps.tolist(), scheduler.sigmas.tolist()[: len(scheduler.timesteps)]
        self.levels = [Level(*level) for level in zip(timesteps, sigmas, strict=True)]

    def begin(self) -> None:
        """Begin a section: forget the steps of the last one."""
        self._scheduler.set_timesteps(**self._arguments)
        self._scheduler.set_begin_index(0)

    def step(self, step: int, flow: Tensor, noisy: Tensor) -> Tensor:
        """Latents at the next noise level, or finished ones.

        Args:
            step: number of the step; steps of a section come in order.
            flow: what the model predicts: noise minus clean.
            noisy: float32 latents at the step's level.
        """
        made: Tensor = self._scheduler.step(flow, self._scheduler.timesteps[step], noisy, return_dict=False)[0]
        return made


def helios_solver(
    steps: int, tokens: int, *, kind: str = "unipc", dynamic_shift: bool = False, time_shift: str = "exponential"
) -> FlowSolver:
    """Helios' own solver: noise levels from 0.999 on, UniPC of order 2.

    Args:
        steps: denoise steps of a section.
        tokens: of a section; a dynamic shift depends on them.
        kind: ``unipc`` or ``euler``.
        dynamic_shift, time_shift: see `FramePackSettings`.
    """
    scheduler = HeliosScheduler(
        stages=1,
        stage_range=[0, 1],
        scheduler_type=kind,
        use_dynamic_shifting=dynamic_shift,
        time_shift_type=time_shift,
    )
    sigmas = np.linspace(0.999, 0.0, steps + 1)[:-1]
    mu = _line(tokens, 4096, 1.15)
    return FlowSolver(scheduler, {"num_inference_steps": steps, "sigmas": sigmas, "mu": mu, "device": "cpu"})


def framepack_solver(steps: int, tokens: int) -> FlowSolver:
    """FramePack's schedule on HunyuanVideo, solved by UniPC of order 3 (bh1).

    The shift grows with the section's tokens and ends at 7 (diffusers_helper/pipelines/k_diffusion_hunyuan.py).
    """
    mu = min(_line(tokens, 4096, 1.15), math.log(7.0))
    return unipc_solver(shifted(np.linspace(1.0, 0.0, steps + 1)[:-1], mu))


def unipc_solver(sigmas: Sequence[float] | np.ndarray[Any, Any]) -> FlowSolver:
    """UniPC of order 3 (bh1) over given noise levels."""
    scheduler = _GivenSigmas(
        solver_order=3,
        solver_type="bh1",
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        lower_order_final=True,
        final_sigmas_type="zero",
    )
    levels = torch.as_tensor(np.asarray(sigmas, dtype=np.float64))
    return FlowSolver(scheduler, {"levels": levels})


def shifted(sigmas: np.ndarray[Any, Any], mu: float) -> np.ndarray[Any, Any]:
    """Noise levels under the exponential shift `mu`."""
    return math.exp(mu) / (math.exp(mu) + (1 / sigmas - 1))


class _GivenSigmas(UniPCMultistepScheduler):
    """Takes its noise levels as they are: diffusers' class would compute others, or round timesteps to integers."""

    def set_timesteps(self, levels: Tensor) -> None:
        super().set_timesteps(len(levels))
        self.timesteps = (levels * 1000.0).float()
        self.sigmas = torch.cat([levels, torch.zeros(1, dtype=levels.dtype)]).float()


def _line(tokens: int, most: int, highest: float) -> float:
    """The shift at a number of tokens, on the line through 0.5 at 256 tokens and `highest` at `most`."""
    return 0.5 + (tokens - 256) * (highest - 0.5) / (most - 256)
