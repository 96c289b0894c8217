"""The real official model, attached live, beside the native one with its weights.

Runs where ``VACE_ADAPT_LONGLIVE`` names a checkout of NVlabs/LongLive v1.0; nothing of it is in this repository.
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
from live import live_pipeline, reanchored, switched
from official_shape import count_hooks, equal_states, state_of
from support import distance, stream
from torch.nn.functional import scaled_dot_product_attention

from vace_adapt.embedded.tiny import TINY
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.weights.wan_keys import to_diffusers
from vace_adapt_longlive.settings import LongLiveSettings

CHECKOUT = os.environ.get("VACE_ADAPT_LONGLIVE")
pytestmark = pytest.mark.skipif(CHECKOUT is None, reason="VACE_ADAPT_LONGLIVE names no checkout of LongLive")


def plain_attention(q, k, v, *args, **kwargs):
    """In place of flash-attention, which a CPU does not have."""
    return scaled_dot_product_attention(*(tensor.transpose(1, 2) for tensor in (q, k, v))).transpose(1, 2)


@pytest.fixture
def official(monkeypatch):
    """The checkout's modules by name, without what its packages import beside the model."""
    for package in ("wan", "wan.modules", "utils"):
        module = types.ModuleType(package)
        module.__path__ = [str(Path(CHECKOUT, *package.split(".")))]
        monkeypatch.setitem(sys.modules, package, module)
    monkeypatch.syspath_prepend(CHECKOUT)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    found = {name: importlib.import_module(f"wan.modules.{name}") for name in ("causal_model", "causal_model_infinity")}
    for module in found.values():
        monkeypatch.setattr(module, "attention", plain_attention)
    monkeypatch.setattr(importlib.import_module("wan.modules.model"), "flash_attention", plain_attention)
    return found


def random_weights(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        scale = 0.3 if parameter.ndim < 2 else 1 / math.sqrt(parameter[0].numel())
        parameter.copy_(torch.randn_like(parameter) * scale)
    return model.eval()


VARIANTS = pytest.mark.parametrize(
    ("module", "rope"), [("causal_model", "absolute"), ("causal_model_infinity", "relative")]
)


def pair(module, settings):
    """The real model of random weights, and the native one with the same."""
    live = random_weights(
        module.CausalWanModel(
            dim=TINY.dim, ffn_dim=TINY.ffn_dim, num_heads=TINY.heads, num_layers=TINY.layers, text_dim=TINY.text_dim,
            text_len=TINY.text_len, freq_dim=TINY.freq_dim, in_dim=16, out_dim=16,
            local_attn_size=settings.window, sink_size=settings.sink,
        )
    )  # fmt: skip
    native = CausalWan.of(TINY).eval()
    native.load_state_dict({to_diffusers(name): tensor for name, tensor in live.state_dict().items()})
    return live, native


@VARIANTS
@pytest.mark.parametrize("source", ["sink", "keyframe", "first"])
def test_both_are_reanchored_alike(official, module, rope, source):
    """The relative variant takes no batches."""
    settings = LongLiveSettings(name="longlive", window=9, rope=rope)
    live, native = pair(official[module], settings)
    rows = 2 if rope == "absolute" else 1
    pipe = live_pipeline(live, "official", settings)
    made, positions = reanchored(pipe, source, rows)
    pipe.detach()
    expected, held = reanchored(live_pipeline(native, "native", settings), source, rows)
    assert distance(made, expected) < 1e-4
    assert positions == held
    assert positions[-1][0][0] > 0, "the sink has moved"


@VARIANTS
@pytest.mark.parametrize("global_sink", [True, False])
def test_the_real_live_model_equals_the_native_one(official, module, rope, global_sink):
    settings = LongLiveSettings(name="longlive", window=9, rope=rope, global_sink=global_sink)
    live, native = pair(official[module], settings)
    before = state_of(live)
    pipe = live_pipeline(live, "official", settings)
    controlled = switched(pipe)
    assert distance(controlled, switched(live_pipeline(native, "native", settings))) < 1e-4
    pipe.detach()
    assert count_hooks(live) == 0
    assert equal_states(state_of(live), before)
    assert distance(stream(pipe, 3, control=False), controlled[:3]) > 1e-3
