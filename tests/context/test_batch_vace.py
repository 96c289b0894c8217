"""One full-length chunk under bidirectional attention is batch VACE: diffusers' WanVACE, same weights, same bits."""

from __future__ import annotations

import pytest
import torch
from diffusers import WanVACETransformer3DModel

from vace_adapt.context.past import Past
from vace_adapt.context.references import References
from vace_adapt.embedded.tiny import TINY_CONTROL_LAYERS

from .conftest import chunk_context, randn


@pytest.fixture(scope="module")
def batch_vace(tiny):
    config = {key: value for key, value in tiny.model.config.items() if not key.startswith("_")}
    model = WanVACETransformer3DModel(**config, vace_layers=list(TINY_CONTROL_LAYERS), vace_in_channels=96).eval()
    model.load_state_dict({**tiny.model.state_dict(), **tiny.path.state_dict()})
    return model


def inputs(count: int, frames: int, mask: str):
    """Latents and control latents with `count` references in front, as the batch method arranges them."""
    latents, control = randn(1, 16, count + frames, 4, 6, seed=1), randn(1, 96, count + frames, 4, 6, seed=2)
    control[:, 16:, :count] = 0
    if mask == "ones":
        control[:, 32:, count:] = 1
    else:
        control[:, 32:, count:] = (randn(1, 64, frames, 4, 6, seed=3) > 0).float()
    return latents, control


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("mask", ["ones", "mixed"])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.7, 1.3)])
def test_batch_layout_is_equal_bit_for_bit(tiny, batch_vace, count, mask, scale):
    latents, control = inputs(count, 4, mask)
    expected = batch_vace(
        latents, torch.tensor([700.0]), tiny.embeds, control_hidden_states=control,
        control_hidden_states_scale=torch.tensor(scale, dtype=torch.float64), return_dict=False,
    )[0]  # fmt: skip
    context = tiny.context(layers=scale)
    context_chunk = chunk_context(context, control)
    output, _ = tiny.run(latents, context_chunk.source(0, 0.7))
    assert torch.equal(output, expected)


@pytest.mark.parametrize(("count", "before"), [(1, 0), (3, 0), (0, 2), (1, 2), (3, 1)])
@pytest.mark.parametrize("mask", ["ones", "mixed"])
def test_references_and_the_past_outside_the_latents_give_the_same_hints(tiny, count, before, mask):
    """Form `joint`: the hints of the chunk's rows are those of the batch layout, though the base never sees a
    reference, nor, in this pass, the frames in front of the chunk."""
    latents, control = inputs(count, 4, mask)
    batch = tiny.context()
    batch_chunk = chunk_context(batch, control)
    _, expected = tiny.run(latents, batch_chunk.source(0, 1.0))

    outside = tiny.context()
    if count:
        held = References(control[:, :, :count], torch.zeros_like(latents[:, :, :count]), latents[:, :, :count])
        outside.set_references(held)
    between, own = slice(count, count + before), slice(count + before, None)
    past = Past(control[:, :, between], None, torch.zeros_like(latents[:, :, between]), latents[:, :, between])
    outside_chunk = chunk_context(outside, control[:, :, own], past=past)
    output, hints = tiny.run(latents[:, :, own], outside_chunk.source(0, 1.0))
    assert output.shape == latents[:, :, own].shape, "what stands in front never changes the shape of the latents"
    for layer in TINY_CONTROL_LAYERS:
        assert torch.allclose(hints[layer], expected[layer][:, (count + before) * 6 :], atol=1e-5)


def test_the_oracle_notices_a_missing_hint(tiny, batch_vace):
    latents, control = inputs(0, 4, "mixed")
    expected = batch_vace(
        latents, torch.tensor([700.0]), tiny.embeds, control_hidden_states=control, return_dict=False
    )[0]
    output, _ = tiny.run(latents, lambda found: {})
    assert float((output - expected).abs().max()) > 0.1


def test_keys_are_those_of_diffusers(tiny, batch_vace):
    theirs = {name for name in batch_vace.state_dict() if name.startswith("vace_")}
    assert set(tiny.path.state_dict()) == theirs
