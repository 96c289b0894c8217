"""With no history the base is Wan2.1, and with VACE on it WanVACE: same tensors, same result."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel, WanVACETransformer3DModel

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.context.chunk import ChunkContext
from vace_adapt.context.injection import Attachment
from vace_adapt.context.stream import ContextStream
from vace_adapt.embedded.tiny import TINY, TINY_CONTROL_LAYERS, seeded, tiny_context_path
from vace_adapt.scale import HintScale
from vace_adapt_framepack.wan.loading import pooled_packing
from vace_adapt_framepack.wan.model import helios_blocks, helios_of

WAN = {
    "num_attention_heads": TINY.heads,
    "attention_head_dim": TINY.head_dim,
    "text_dim": TINY.text_dim,
    "freq_dim": TINY.freq_dim,
    "ffn_dim": TINY.ffn_dim,
    "num_layers": TINY.layers,
}


@pytest.fixture(scope="module")
def helios():
    return seeded(lambda: helios_of(TINY), 0, "base")


def wan_names(model):
    """The tensors of the base under Wan's names, without the packing convolutions."""
    state = {name: t for name, t in model.state_dict().items() if not name.startswith("patch_") or "embedding" in name}
    state["scale_shift_table"] = state.pop("norm_out.scale_shift_table")
    return state


def inputs(batch=2):
    torch.manual_seed(0)
    return {
        "hidden_states": torch.randn(batch, 16, 9, 4, 6),
        "timestep": torch.tensor([600.0, 250.0][:batch]),
        "encoder_hidden_states": torch.randn(batch, 7, TINY.text_dim),
    }


@torch.no_grad()
def test_without_history_it_is_wan(helios):
    wan = WanTransformer3DModel(**WAN).eval()
    wan.load_state_dict(wan_names(helios))
    given = inputs()
    came, expected = helios(**given).sample, wan(**given).sample
    assert expected.std() > 0.1
    assert float((came - expected).abs().max()) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_without_history_it_is_wan_vace(helios, scale):
    path = tiny_context_path(0)
    vace = WanVACETransformer3DModel(**WAN, vace_layers=list(TINY_CONTROL_LAYERS), vace_in_channels=96).eval()
    vace.load_state_dict({**wan_names(helios), **path.state_dict()})
    given, control = inputs(), torch.randn(2, 96, 9, 4, 6)
    stream = ContextStream(
        path,
        helios.patch_embedding,
        RotaryGrid(TINY.head_dim, (2, 3), torch.device("cpu")),
        "joint",
        HintScale(control=scale),
    )
    source = ChunkContext(stream, (2, 9), control, lambda: torch.zeros_like(control)).source(0, 0.5)
    attachment = Attachment(helios, helios_blocks(helios), TINY_CONTROL_LAYERS)
    try:
        with attachment.running(source):
            came = helios(**given).sample
    finally:
        attachment.detach()
    expected = vace(**given, control_hidden_states=control, control_hidden_states_scale=torch.full((2,), scale)).sample
    assert float((came - expected).abs().max()) < 1e-5
    assert float((came - helios(**given).sample).abs().max()) > 1e-2


@torch.no_grad()
@pytest.mark.parametrize(("part", "times"), [("patch_short", 1), ("patch_mid", 2), ("patch_long", 4)])
def test_pooled_packing_is_the_embedding_of_averages(helios, part, times):
    embedding = helios.patch_embedding
    made = pooled_packing(embedding.weight, embedding.bias)
    latents = torch.randn(1, 16, 4, 16, 8)
    stride = (times, 2 * times, 2 * times)
    came = F.conv3d(latents, made[f"{part}.weight"], made[f"{part}.bias"], stride=stride)
    expected = embedding(F.avg_pool3d(latents, times))
    assert came.shape == expected.shape
    assert torch.allclose(came, expected, atol=1e-5)
    assert made[f"{part}.weight"].shape == getattr(helios, part).weight.shape
