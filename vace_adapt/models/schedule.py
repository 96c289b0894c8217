"""Few-step sampling of self-forcing models: flow to clean latents, and back to noise for the next step.

Stateless, and it never draws noise. Formulas and table: guandeh17/Self-Forcing utils/scheduler.py
(``FlowMatchScheduler`` with ``sigma_min=0``, ``extra_one_step=True``) and utils/wan_wrapper.py
(``_convert_flow_pred_to_x0``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vace_adapt.errors import InputError

TRAIN_STEPS = 1000


class FewStepSchedule:
    """The denoise steps of a chunk.

    Args:
        steps: timesteps in (0, 1000], decreasing.
        shift: flow shift of the noise levels (5 for LongLive).
        warp: whether `steps` are positions on the unshifted grid, to be mapped to the shifted one; then they are whole
            numbers ([1000, 750, 500, 250] become [1000, 937.5, 833.3, 625]).
        device: where timestep tensors are made.

    Attributes:
        timesteps: the steps used, float32 values.
        sigmas: their noise levels in [0, 1].
    """

    def __init__(self, steps: Sequence[float], *, shift: float, warp: bool, device: torch.device) -> None:
        grid = torch.linspace(1.0, 0.0, TRAIN_STEPS + 1)[:-1]
        self._sigmas = shift * grid / (1 + (shift - 1) * grid)
        self._grid = self._sigmas * TRAIN_STEPS
        self._device = device
        if (
            not steps
            or any(not 0 < step <= TRAIN_STEPS for step in steps)
            or list(steps) != sorted(set(steps), reverse=True)
        ):
            raise InputError(f"denoise steps must decrease within (0, {TRAIN_STEPS}], not {list(steps)}")
        if warp and any(step != int(step) for step in steps):
            raise InputError(f"denoise steps to be warped must be whole numbers, not {list(steps)}")
        self.timesteps = [float(self._grid[TRAIN_STEPS - int(step)]) if warp else float(step) for step in steps]
        self.sigmas = [self.sigma(timestep) for timestep in self.timesteps]

    def __len__(self) -> int:
        return len(self.timesteps)

    def sigma(self, timestep: float) -> float:
        """Noise level of the table entry nearest to a timestep, as upstream looks it up."""
        nearest = int(torch.argmin((self._grid.double() - timestep).abs()))
        return float(self._sigmas[nearest])

    def tensor(self, timestep: float, batch: int) -> Tensor:
        """A timestep as the model takes it: float32 [B]. bf16 would round 937.5 to 936."""
        return torch.full((batch,), timestep, dtype=torch.float32, device=self._device)

    def clean(self, noisy: Tensor, flow: Tensor, sigma: float | Tensor) -> Tensor:
        """Predicted clean latents ``noisy - sigma * flow``, computed in float64 (float32 on mps), in flow's dtype.

        `sigma` is that of all rows, or float32 [B, 1, 1, 1, 1].
        """
        wide = torch.float32 if flow.device.type == "mps" else torch.float64
        return (noisy.to(wide) - sigma * flow.to(wide)).to(flow.dtype)

    def renoise(self, clean: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """``(1 - sigma) * clean + sigma * noise``, computed in float32 with float32 coefficients, in noise's dtype."""
        level = torch.tensor(sigma, dtype=torch.float32)
        return (clean.float() * float(1 - level) + noise.float() * float(level)).type_as(noise)
