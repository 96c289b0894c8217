"""The real 1.3B and 14B models, on the meta device: their key lists and shapes are those of the official files."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from checkpoints import base_names, vace_names
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import save_file

from vace_adapt.context.blocks import ContextPath
from vace_adapt.contract import Backbone
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.weights.wan_keys import is_original, to_diffusers

# Wan-Video/Wan2.1 wan/configs/wan_t2v_1_3B.py and wan_t2v_14B.py; config.json of ali-vilab's Wan2.1-VACE-1.3B and -14B
MODELS = {
    "1.3B": (Backbone(dim=1536, ffn_dim=8960, heads=12, layers=30), range(0, 30, 2), 825, 439, 0.735e9),
    "14B": (Backbone(dim=5120, ffn_dim=13824, heads=40, layers=40), range(0, 40, 5), 1095, 236, 3.05e9),
}


@pytest.mark.parametrize("size", MODELS)
def test_key_lists_and_sizes(size):
    backbone, layers, base_count, vace_count, vace_parameters = MODELS[size]
    with torch.device("meta"):
        model, path = CausalWan.of(backbone), ContextPath(backbone, layers)
    assert len(base_names(backbone.layers)) == base_count
    assert len(vace_names(len(layers))) == vace_count
    assert {to_diffusers(name) for name in base_names(backbone.layers)} == set(model.state_dict())
    assert {to_diffusers(name) for name in vace_names(len(layers))} == set(path.state_dict())
    assert path.vace_patch_embedding.weight.shape == (backbone.dim, 96, 1, 2, 2)
    assert sum(p.numel() for p in path.parameters()) == pytest.approx(vace_parameters, rel=0.01)


def test_longlive_declares_the_real_backbone():
    from vace_adapt.loading import load_plugin

    assert load_plugin("longlive").info.backbones["1.3B"] == MODELS["1.3B"][0]


def test_names_agree_with_diffusers_converter():
    for name in (*base_names(30), *vace_names(15)):
        (expected,) = convert_wan_transformer_to_diffusers({name: None})
        assert to_diffusers(name) == expected
    assert not any(is_original(to_diffusers(name)) for name in (*base_names(2), *vace_names(2)))


MEASURE = """
import resource, sys, torch
from vace_adapt.contract import Backbone
from vace_adapt.weights.control import load_context_path
backbone = Backbone(dim=512, ffn_dim=3072, heads=8, layers=30)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
path = load_context_path(sys.argv[1], backbone, torch.device("cpu"), torch.bfloat16)
assert sum(p.numel() for p in path.parameters()) > 70e6
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_peak_memory_stays_near_the_file_size(tmp_path):
    """Built on the meta device and filled tensor by tensor: no second copy, no float32 copy."""
    backbone = Backbone(dim=512, ffn_dim=3072, heads=8, layers=30)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in ContextPath(backbone, range(0, 30, 2)).state_dict().items()}
    file = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}, file)
    size = file.stat().st_size
    assert size > 140e6
    run = subprocess.run([sys.executable, "-c", MEASURE, str(file)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 1.2 * size
