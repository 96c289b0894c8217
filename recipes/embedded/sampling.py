"""Whole clips from the bidirectional base, for sheets and for the comparison with streaming: VACE as it was made."""

from __future__ import annotations

from itertools import pairwise

import torch
from network import flow
from precision import autocast
from torch import Tensor

from vace_adapt.context.blocks import ContextPath
from vace_adapt.models.causal_wan import CausalWan

STEPS, SHIFT = 20, 5.0
GUIDANCE = 3.0
"""How far to go from the flow without a prompt to the one with it, and beyond (Ho and Salimans 2022)."""


@torch.no_grad()
def sample(
    base: CausalWan,
    text: Tensor,
    unprompted: Tensor,
    noise: Tensor,
    *,
    path: ContextPath | None = None,
    control: Tensor | None = None,
    references: int = 0,
    steps: int = STEPS,
) -> Tensor:
    """Euler's method on the guided flow, from noise to latents.

    Args:
        base: the bidirectional transformer.
        text: of the prompts, [B, N, text_dim].
        unprompted: of no prompt, alike.
        noise: [B, C, R+F, h, w], references in front.
        path, control: the context blocks and control latents [B, 96, R+F, h, w].
        references: R.
        steps: of the method.

    Returns:
        [B, C, F, h, w], without the references.
    """
    level = torch.linspace(1, 0, steps + 1)
    latents, frames = noise, noise.shape[2]
    for now, later in pairwise((SHIFT * level / (1 + (SHIFT - 1) * level)).tolist()):
        sigma = torch.full((len(noise), frames), now, device=noise.device)
        with autocast(noise.device.type):
            made = guided(
                *(
                    flow(base, latents, sigma, each, range(frames), path=path, control=control)
                    for each in (text, unprompted)
                )
            )
        latents = latents + (later - now) * made
    return latents[:, :, references:]


def guided(prompted: Tensor, free: Tensor) -> Tensor:
    """The guided flow, of the flows with a prompt and without."""
    return free + GUIDANCE * (prompted - free)
