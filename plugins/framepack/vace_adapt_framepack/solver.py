"""Solvers of the flow from noise to latents: diffusers' for Helios, an own one for FramePack.

The schedule is fixed before the first step and kept on the CPU, so that no step waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
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


def framepack_solver(steps: int, tokens: int, strength: float = 1.0) -> UniPc:
    """FramePack's schedule on HunyuanVideo (diffusers_helper/pipelines/k_diffusion_hunyuan.py).

    Args:
        steps: denoise steps of a section.
        tokens: of a section; the shift grows with them, up to 7.
        strength: what all noise levels are multiplied with.
    """
    mu = min(_line(tokens, 4096, 1.15), math.log(7.0))
    return UniPc(strength * shifted(np.linspace(1.0, 0.0, steps + 1)[:-1], mu))


def shifted(sigmas: np.ndarray[Any, Any], mu: float) -> np.ndarray[Any, Any]:
    """Noise levels under the exponential shift `mu`."""
    return math.exp(mu) / (math.exp(mu) + (1 / sigmas - 1))


class UniPc:
    """UniPC for a flow, multistep with corrector, order 3, B(h) = h (Zhao et al., UniPC, NeurIPS 2023, section 3).

    In l = -log(sigma) the flow is d(x)/dl = clean - x, so a step is exact for a clean estimate that is constant, and
    its differences to earlier estimates give the higher orders. The last estimate is the result: what lies at level 0
    is never asked for.

    Args:
        sigmas: noise levels in (0, 1], falling.

    Attributes:
        levels: the steps of every section.
    """

    ORDER = 3

    def __init__(self, sigmas: Sequence[float] | np.ndarray[Any, Any]) -> None:
        self.levels = [Level(1000.0 * float(sigma), float(sigma)) for sigma in sigmas]
        self._logs = [-math.log(level.sigma) for level in self.levels]
        self.begin()

    def begin(self) -> None:
        """Begin a section."""
        self._estimates: list[Tensor] = []  # the newest last
        self._behind: Tensor | None = None  # latents at the level of the newest
        self._order = 0

    def step(self, step: int, flow: Tensor, noisy: Tensor) -> Tensor:
        """Latents at the next noise level, or finished ones; see `FlowSolver.step`."""
        clean = noisy - self.levels[step].sigma * flow
        if step + 1 == len(self.levels):
            return clean
        if self._behind is not None:
            noisy = self._moved(self._behind, step - 1, clean)
        self._estimates = [*self._estimates[1 - self.ORDER :], clean]
        self._behind = noisy
        self._order = len(self._estimates)
        return self._moved(noisy, step)

    def _moved(self, noisy: Tensor, step: int, corrector: Tensor | None = None) -> Tensor:
        """Latents moved from the level of `step` to the next one, by the estimates up to `step`; and by the one at the
        next level, where it is known.
        """
        distance = self._logs[step + 1] - self._logs[step]
        newest = self._estimates[-1]
        ratios = [(self._logs[step - k] - self._logs[step]) / distance for k in range(1, self._order)]
        slopes = [(self._estimates[-1 - k] - newest) / ratio for k, ratio in enumerate(ratios, start=1)]
        if corrector is not None:
            ratios, slopes = [*ratios, 1.0], [*slopes, corrector - newest]
        moved = math.exp(-distance) * noisy - math.expm1(-distance) * newest
        for weight, slope in zip(_weights(ratios, -distance), slopes, strict=True):
            moved = moved + distance * weight * slope
        return moved


def _weights(ratios: Sequence[float], h: float) -> list[float]:
    """How much each slope counts, so that polynomials are followed exactly; 1/2 for a single one."""
    if len(ratios) == 1:
        return [0.5]
    phi, right = math.expm1(h) / h - 1, []
    for k in range(1, len(ratios) + 1):
        right.append(phi * math.factorial(k) / h)
        phi = phi / h - 1 / math.factorial(k + 1)
    powers = np.array([[ratio**k for ratio in ratios] for k in range(len(ratios))])
    return [float(weight) for weight in np.linalg.solve(powers, np.array(right))] if ratios else []


def _line(tokens: int, most: int, highest: float) -> float:
    """The shift at a number of tokens, on the line through 0.5 at 256 tokens and `highest` at `most`."""
    return 0.5 + (tokens - 256) * (highest - 0.5) / (most - 256)
