"""The forward over whole clips against diffusers' batch transformers, on the same weights."""

from __future__ import annotations

import pytest
import torch
from diffusers import WanTransformer3DModel, WanVACETransformer3DModel
from network import flow

from vace_adapt.embedded.tiny import TINY, TINY_CONTROL_LAYERS, seeded, tiny_context_path
from vace_adapt.models.causal_wan import CausalWan

FRAMES, HEIGHT, WIDTH = 4, 4, 6


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def config(model):
    return {key: value for key, value in model.config.items() if not key.startswith("_")}


@pytest.fixture(scope="module")
def base():
    return seeded(lambda: CausalWan.of(TINY), 3, "base")


@pytest.fixture(scope="module")
def path():
    return tiny_context_path(3)


@pytest.fixture(scope="module")
def wan(base):
    model = WanTransformer3DModel(**config(base)).eval()
    model.load_state_dict(base.state_dict())
    return model


@pytest.fixture(scope="module")
def vace(base, path):
    model = WanVACETransformer3DModel(**config(base), vace_layers=list(TINY_CONTROL_LAYERS), vace_in_channels=96).eval()
    model.load_state_dict({**base.state_dict(), **path.state_dict()})
    return model


TEXT = randn(2, TINY.text_len, TINY.text_dim, seed=4)
LEVELS = torch.tensor([0.7, 0.2])


def inputs(references):
    """Latents and control latents with references in front, as the batch method arranges them."""
    frames = references + FRAMES
    latents, control = randn(2, 16, frames, HEIGHT, WIDTH, seed=1), randn(2, 96, frames, HEIGHT, WIDTH, seed=2)
    control[:, 16:, :references] = 0
    control[:, 32:, references:] = (control[:, 32:, references:] > 0).float()
    return latents, control


def ours(base, latents, **given):
    frames = latents.shape[2]
    return flow(base, latents, LEVELS[:, None].expand(-1, frames), TEXT, range(frames), **given)


def distance(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max())


def test_the_base_alone_is_wan(base, wan):
    latents, _ = inputs(0)
    expected = wan(latents, 1000 * LEVELS, TEXT).sample
    assert distance(ours(base, latents), expected) < 1e-5
    everywhere = torch.ones((FRAMES, FRAMES), dtype=torch.bool)
    assert distance(ours(base, latents, mask=everywhere), expected) < 1e-5
    assert distance(ours(base, latents, mask=everywhere.tril()), expected) > 1e-2


@pytest.mark.parametrize("references", [0, 1, 3])
def test_with_context_blocks_it_is_wan_vace(base, path, vace, references):
    latents, control = inputs(references)
    expected = vace(latents, 1000 * LEVELS, TEXT, control_hidden_states=control, return_dict=False)[0]
    assert distance(ours(base, latents, path=path, control=control), expected) < 1e-5
    assert distance(ours(base, latents), expected) > 0.1
    assert distance(ours(base, latents, path=path, control=control.roll(1, dims=2)), expected) > 1e-2


def test_positions_and_levels_matter(base, wan):
    latents, _ = inputs(0)
    expected = wan(latents, 1000 * LEVELS, TEXT).sample
    sigma = LEVELS[:, None].expand(-1, FRAMES)
    later = flow(base, latents, sigma, TEXT, range(5, 5 + FRAMES))
    assert distance(later, expected) < 1e-4, "only distances in time count"
    assert distance(flow(base, latents, sigma, TEXT, [0, 1, 2, 9]), expected) > 1e-3
    noisier = sigma.clone()
    noisier[:, -1] = 0.9
    assert distance(flow(base, latents, noisier, TEXT, range(FRAMES)), expected) > 1e-2
