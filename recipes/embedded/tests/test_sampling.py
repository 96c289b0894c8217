from __future__ import annotations

import pytest
import torch
from base import new_context
from network import flow
from precision import autocast
from sampling import sample

from vace_adapt.embedded.family import FAMILY
from vace_adapt.embedded.tiny import seeded
from vace_adapt.models.causal_wan import CausalWan


@pytest.fixture(scope="module")
def models():
    base = seeded(lambda: CausalWan.of(FAMILY), 0, "base")
    return base, seeded(lambda: new_context(base), 0, "context")


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("references", [0, 2])
def test_two_steps_by_hand(models, references):
    base, path = models
    frames = references + 3
    text, unprompted = randn(1, 8, 64), randn(1, 8, 64) * 0.1
    noise, control = randn(1, 16, frames, 4, 4), randn(1, 96, frames, 4, 4)

    def velocity(latents, sigma):
        with autocast("cpu"):
            levels = torch.full((1, frames), sigma)
            prompted, free = (
                flow(base, latents, levels, each, range(frames), path=path, control=control)
                for each in (text, unprompted)
            )
        return 3 * prompted - 2 * free

    middle = 5 * 0.5 / (1 + 4 * 0.5)
    half = noise + (middle - 1) * velocity(noise, 1.0)
    expected = half - middle * velocity(half, middle)
    made = sample(base, text, unprompted, noise, path=path, control=control, references=references, steps=2)
    assert made.shape == (1, 16, 3, 4, 4)
    assert torch.allclose(made, expected[:, :, references:], atol=1e-5)
    for other in (
        sample(base, text, unprompted, noise, steps=2)[:, :, references:],
        sample(base, text, text, noise, path=path, control=control, references=references, steps=2),
    ):
        assert not torch.allclose(other, expected[:, :, references:], atol=1e-2)
