"""VACE weights from the three key layouts, single and sharded, and what is refused with which numbers."""

from __future__ import annotations

import json
import re

import pytest
import torch
from checkpoints import base_names, half, original, save_sharded, vace_names
from safetensors.torch import save_file

from vace_adapt.contract import Backbone
from vace_adapt.embedded.tiny import TINY, seeded, tiny_context_path
from vace_adapt.errors import CheckpointError
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.weights.base import load_causal_wan
from vace_adapt.weights.control import load_context_path

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def states():
    """The same weights in the three layouts."""
    path, model = tiny_context_path(1), seeded(lambda: CausalWan.of(TINY), 1, "base")
    diffusers = {**model.state_dict(), **path.state_dict()}
    module = original(diffusers, vace_names(2))
    return {
        "original": {**original(diffusers, base_names(TINY.layers)), **module},
        "module": module,
        "diffusers": {name: tensor.clone() for name, tensor in diffusers.items()},
    }


def load(source, backbone=TINY, dtype=torch.float32):
    return load_context_path(str(source), backbone, CPU, dtype)


@pytest.mark.parametrize("layout", ["original", "module", "diffusers"])
@pytest.mark.parametrize("form", ["single", "sharded", "prefixed", "pickle"])
def test_every_layout_gives_the_same_weights(states, tmp_path, layout, form):
    state = states[layout]
    if form == "sharded":
        source = save_sharded(state, tmp_path / "shards")
    elif form == "pickle":
        source = tmp_path / "model.pth"
        torch.save(state, source)
    else:
        source = tmp_path / "model.safetensors"
        prefix = "model.diffusion_model." if form == "prefixed" else ""
        save_file({prefix + name: tensor for name, tensor in state.items()}, source)
    found, expected = load(source), tiny_context_path(1)
    assert found.layers == (0, 2)
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in expected.state_dict().items())
    assert not any(p.requires_grad or p.is_meta for p in found.parameters())


def test_half_precision_keeps_the_delicate_parts_in_float32(states, tmp_path):
    save_file(half(states["module"]), tmp_path / "m.safetensors")
    found = load(tmp_path / "m.safetensors", dtype=torch.bfloat16)
    assert found.vace_blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert found.vace_blocks[0].scale_shift_table.dtype == torch.float32
    assert found.vace_blocks[0].norm2.weight.dtype == torch.float32


def test_layers_come_from_the_config_beside_the_weights(states, tmp_path):
    save_sharded(states["module"], tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"vace_layers": [0, 3]}))
    assert load(tmp_path).layers == (0, 3)
    (tmp_path / "config.json").write_text(json.dumps({"vace_layers": None}))
    assert load(tmp_path).layers == (0, 2)


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([0, 9], r"has 2 context blocks for layers \[0, 9\], the base model has 4 blocks"),
        ([0], r"has 2 context blocks for layers \[0\]"),
        ([], r"has 2 context blocks for layers \[\]"),
        (["0", "2"], r"must be a list of integers, not \['0', '2'\]"),
        ([None, 1], r"must be a list of integers, not \[None, 1\]"),
        ([0.5, 2], r"must be a list of integers, not \[0.5, 2\]"),
        ("0, 2", "must be a list of integers, not 0, 2"),
        ([0, -2], r"must ascend from 0, not \[0, -2\]"),
        ([2, 0], r"must ascend from 0, not \[2, 0\]"),
        ([0, 0], r"must ascend from 0, not \[0, 0\]"),
        ([1, 2], r"must ascend from 0, not \[1, 2\]"),
    ],
)
def test_layers_that_cannot_be(states, tmp_path, layers, text):
    save_file(states["module"], tmp_path / "m.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"vace_layers": layers}))
    with pytest.raises(CheckpointError, match=text):
        load(tmp_path)


def refused(states, tmp_path, backbone, text):
    save_file(states["module"], tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=text):
        load(tmp_path / "m.safetensors", backbone)


def test_another_width_is_refused_with_both(states, tmp_path):
    wide = Backbone(dim=96, ffn_dim=96, heads=2, layers=4)
    refused(states, tmp_path, wide, "has context blocks of width 48, the base model has width 96: .*1536 .*5120")


def test_another_depth_is_refused_with_both(states, tmp_path):
    deep = TINY.model_copy(update={"layers": 5})
    refused(states, tmp_path, deep, "has 2 context blocks, which do not spread evenly over 5 base blocks")


def test_another_vae_is_refused_with_both(states, tmp_path):
    other = TINY.model_copy(update={"latent_channels": 48, "stride": (4, 16, 16)})
    refused(states, tmp_path, other, r"takes 96 control channels; this base's VAE \(48 channels, 16x16\) makes 352")


def test_another_feed_forward_width_is_refused_by_name(states, tmp_path):
    other = TINY.model_copy(update={"ffn_dim": 100})
    refused(states, tmp_path, other, r"vace_blocks.0.ffn.0.weight is \[96, 48\], expected \[100, 48\]")


def test_weights_without_vace_are_refused(states, tmp_path):
    save_file(original(states["diffusers"], base_names(4)), tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="holds no VACE weights: no vace_patch_embedding"):
        load(tmp_path / "m.safetensors")


def test_missing_and_unexpected_tensors_are_named(states, tmp_path):
    state = dict(states["module"])
    del state["vace_blocks.1.ffn.0.bias"]
    state["vace_blocks.1.extra"] = torch.ones(1)
    save_file(state, tmp_path / "m.safetensors")
    missing = r"1 tensors missing \(first 'vace_blocks.1.ffn.net.0.proj.bias'\)"
    unexpected = r"1 tensors unexpected \(first 'vace_blocks.1.extra'\)"
    with pytest.raises(CheckpointError, match=f"{missing} and {unexpected}"):
        load(tmp_path / "m.safetensors")


def test_mixed_layouts_are_refused(states, tmp_path):
    state = {**states["module"], "vace_blocks.0.attn1.to_q.weight": torch.ones(48, 48)}
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="mixes the original and the diffusers layout"):
        load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_base_model_from_either_layout(states, tmp_path, layout):
    names = base_names(4)
    state = (
        original(states["diffusers"], names)
        if layout == "original"
        else seeded(lambda: CausalWan.of(TINY), 1, "base").state_dict()
    )
    save_file(state, tmp_path / "m.safetensors")
    found = load_causal_wan(str(tmp_path / "m.safetensors"), TINY, CPU, torch.float32)
    expected = seeded(lambda: CausalWan.of(TINY), 1, "base").state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"dim": 96}, "is a model of width 48, this pipeline has width 96"),
        ({"layers": 6}, "has 4 blocks, this pipeline has 6"),
        ({"latent_channels": 48}, "takes latents of 16 channels, this pipeline's VAE makes 48"),
    ],
)
def test_base_models_of_another_size(states, tmp_path, change, text):
    save_file(original(states["diffusers"], base_names(4)), tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=text):
        load_causal_wan(str(tmp_path / "m.safetensors"), TINY.model_copy(update=change), CPU, torch.float32)


def test_a_file_of_something_else_is_no_base_model(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="holds no Wan2.1 model: no patch_embedding"):
        load_causal_wan(str(tmp_path / "m.safetensors"), TINY, CPU, torch.float32)


@pytest.mark.parametrize("shape", [[], [48], [48, 16]])
def test_a_patch_embedding_of_other_dimensions(tmp_path, shape):
    save_file({"patch_embedding.weight": torch.ones(shape)}, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match=rf" patch_embedding.weight is {re.escape(str(shape))}, expected 5 dim"):
        load_causal_wan(str(tmp_path / "b.safetensors"), TINY, CPU, torch.float32)
    save_file({"vace_patch_embedding.weight": torch.ones(shape)}, tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match=rf"vace_patch_embedding.weight is {re.escape(str(shape))}, expected 5 d"):
        load(tmp_path / "c.safetensors")


def test_a_patch_embedding_alone_is_no_vace(tmp_path):
    save_file({"vace_patch_embedding.weight": torch.ones(48, 96, 1, 2, 2)}, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="holds no VACE weights: no vace_blocks"):
        load(tmp_path / "m.safetensors")
