"""The real official model, attached live, beside the native one with its weights.

Runs where ``VACE_ADAPT_STREAMDIFFUSION`` names a checkout of chenfengxu714/StreamDiffusionV2; nothing of it is in this
repository.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import types
from pathlib import Path

import pytest
import torch
from sd_live import controlled, live_pipeline, reanchored
from support import distance, stream
from torch.nn.functional import scaled_dot_product_attention

from vace_adapt.embedded.tiny import TINY
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.weights.wan_keys import to_diffusers
from vace_adapt_conformance import Subject, all_checks
from vace_adapt_conformance.runner import run_check
from vace_adapt_streamdiffusion import plugin
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings

CHECKOUT = os.environ.get("VACE_ADAPT_STREAMDIFFUSION")
pytestmark = pytest.mark.skipif(CHECKOUT is None, reason="VACE_ADAPT_STREAMDIFFUSION names no checkout")

OFFICIAL = {"official_quirks": True, "position_refresh": "official"}


@pytest.fixture
def official(monkeypatch):
    """The checkout's model, without what its packages import beside it."""
    for package in ("models", "models.wan", "models.wan.wan_base", "models.wan.wan_base.modules"):
        module = types.ModuleType(package)
        module.__path__ = [str(Path(CHECKOUT, *package.split(".")))]
        monkeypatch.setitem(sys.modules, package, module)
    found = importlib.import_module("models.wan.causal_model")
    model = importlib.import_module("models.wan.wan_base.modules.model")
    monkeypatch.setattr(model, "flash_attention", plain_attention)
    # Rotations of recent positions are remembered up to a bound, which a short stream would not reach.
    monkeypatch.setattr(found, "_CAUSAL_ROPE_FREQ_CACHE_SIZE", 1)
    yield found
    for name in [name for name in sys.modules if name.startswith("models.wan.")]:
        monkeypatch.delitem(sys.modules, name)


def plain_attention(q, k, v, *args, **kwargs):
    """In place of flash-attention, which a CPU does not have."""
    return scaled_dot_product_attention(*(tensor.transpose(1, 2) for tensor in (q, k, v))).transpose(1, 2)


def pair(module):
    """The real model of random weights, and the native one with the same."""
    live = module.CausalWanModel(
        dim=TINY.dim, ffn_dim=TINY.ffn_dim, num_heads=TINY.heads, num_layers=TINY.layers, text_dim=TINY.text_dim,
        text_len=TINY.text_len, freq_dim=TINY.freq_dim, in_dim=16, out_dim=16, cross_attn_norm=TINY.cross_attn_norm,
    )  # fmt: skip
    torch.manual_seed(0)
    for parameter in live.parameters():
        scale = 0.3 if parameter.ndim < 2 else 1 / math.sqrt(parameter[0].numel())
        parameter.data.copy_(torch.randn_like(parameter) * scale)
    live.eval().requires_grad_(False)
    native = CausalWan.of(TINY).eval().requires_grad_(False)
    native.load_state_dict({to_diffusers(name): tensor for name, tensor in live.state_dict().items()})
    return live, native


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"stream_batch": False},
        {"denoising_steps": (700, 500, 400, 200), "position_limit": 9},
        {"sink_threshold": -1, "position_limit": None},
    ],
)
def test_the_real_live_model_equals_the_native_one(official, changed):
    settings = StreamDiffusionSettings(name="streamdiffusion", **OFFICIAL, **changed)
    live, native = pair(official)
    before = {name: tensor.clone() for name, tensor in live.state_dict().items()}
    pipe = live_pipeline(live, "official", settings)
    made, held = controlled(pipe)
    expected, there = controlled(live_pipeline(native, "native", settings))
    assert distance(made, expected) < 1e-4
    assert held == there
    attention = live.blocks[0].self_attn
    assert (attention.sink_size, attention.adapt_sink_thr, attention.evict_idx) == (3, -1, None)
    pipe.detach()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in live.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in live.state_dict().items())
    assert (
        distance(stream(pipe, 3, control=False), stream(live_pipeline(native, "native", settings), 3, control=False))
        < 1e-4
    )


@pytest.mark.parametrize("source", ["sink", "first"])
def test_both_are_reanchored_alike(official, source):
    settings = StreamDiffusionSettings(name="streamdiffusion", **OFFICIAL, position_limit=9)
    live, native = pair(official)
    pipe = live_pipeline(live, "official", settings)
    made, held = reanchored(pipe, source)
    pipe.detach()
    expected, there = reanchored(live_pipeline(native, "native", settings), source)
    assert distance(made, expected) < 1e-4
    assert held == there


def test_the_real_live_model_conforms(official):
    def live(parts):
        model, native = pair(official)
        native.load_state_dict(parts.model.state_dict())
        names = {to_diffusers(name): name for name in model.state_dict()}
        model.load_state_dict({names[name]: tensor for name, tensor in native.state_dict().items()})
        return model

    subject = Subject("streamdiffusion", plugin, layout="official", live=live, settings=OFFICIAL)
    results = [run_check(check, subject) for check in all_checks() if check.group != "contract"]
    assert {one.check.name: one.reason for one in results if one.bad} == {}
