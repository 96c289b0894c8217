"""The real official model, attached live, beside the native one with its weights.

Runs where ``VACE_ADAPT_MEMFLOW`` names a checkout of KlingTeam/MemFlow; nothing of it is in this repository. Its
attention is written for latent frames of 1560 tokens; for frames of the tests' size that one number is replaced while
its module is read.
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
from memflow_live import live_pipeline, switched
from official_shape import count_hooks, equal_states, state_of
from support import distance
from torch.nn.functional import scaled_dot_product_attention

from vace_adapt.embedded.tiny import TINY
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.weights.wan_keys import to_diffusers
from vace_adapt_memflow import official_cache
from vace_adapt_memflow.live import check_model
from vace_adapt_memflow.settings import MemFlowSettings

CHECKOUT = os.environ.get("VACE_ADAPT_MEMFLOW")
pytestmark = pytest.mark.skipif(CHECKOUT is None, reason="VACE_ADAPT_MEMFLOW names no checkout of MemFlow")

TOKENS = 6


def plain_attention(q, k, v, *args, **kwargs):
    """In place of flash-attention, which a CPU does not have."""
    return scaled_dot_product_attention(*(tensor.transpose(1, 2) for tensor in (q, k, v))).transpose(1, 2)


@pytest.fixture
def official(monkeypatch):
    """The checkout's model module, without what its packages import beside it."""
    for package in ("wan", "wan.modules", "utils"):
        module = types.ModuleType(package)
        module.__path__ = [str(Path(CHECKOUT, *package.split(".")))]
        monkeypatch.setitem(sys.modules, package, module)
    monkeypatch.syspath_prepend(CHECKOUT)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(official_cache, "FRAME_TOKENS", TOKENS)
    monkeypatch.setattr(importlib.import_module("wan.modules.model"), "flash_attention", plain_attention)
    source = Path(CHECKOUT, "wan", "modules", "causal_model.py").read_text().replace("1560", str(TOKENS))
    module = types.ModuleType("wan.modules.causal_model")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.__package__ = "wan.modules"
    exec(compile(source, "causal_model.py", "exec"), module.__dict__)
    module.attention = plain_attention
    return module


def pair(module, settings):
    """The real model of random weights, and the native one with the same."""
    live = module.CausalWanModel(
        dim=TINY.dim, ffn_dim=TINY.ffn_dim, num_heads=TINY.heads, num_layers=TINY.layers, text_dim=TINY.text_dim,
        text_len=TINY.text_len, freq_dim=TINY.freq_dim, in_dim=16, out_dim=16,
        local_attn_size=settings.window, sink_size=settings.sink,
        bank_size=settings.bank, record_interval=settings.record_interval, SMA=settings.sparse,
    ).eval()  # fmt: skip
    torch.manual_seed(0)
    for parameter in live.parameters():
        scale = 0.3 if parameter.ndim < 2 else 1 / math.sqrt(parameter[0].numel())
        parameter.copy_(torch.randn_like(parameter) * scale)
    native = CausalWan.of(TINY).eval()
    native.load_state_dict({to_diffusers(name): tensor for name, tensor in live.state_dict().items()})
    return live, native


@pytest.mark.parametrize(
    ("changed", "batch"),
    [
        ({}, 1),
        ({"official_quirks": False}, 1),
        ({"memory": "single", "sparse": True}, 1),
        ({"record_interval": 1, "bank": 2, "window": 9, "global_sink": False, "official_quirks": False}, 1),
        ({"record_interval": 1}, 2),
    ],
)
def test_the_real_live_model_equals_the_native_one(official, changed, batch):
    settings = MemFlowSettings(name="memflow", denoising_steps=(1000, 500), backbone=TINY, **changed)
    live, native = pair(official, settings)
    check_model(live, "official", settings)
    before = state_of(live)
    pipe = live_pipeline(live, "official", settings)
    made, held = switched(pipe, batch=batch)
    pipe.detach()
    expected, positions = switched(live_pipeline(native, "native", settings), batch=batch)
    assert distance(made, expected) < 1e-4
    bank = settings.bank
    assert [[row[-bank:] for row in rows] for rows in held] == [[row[-bank:] for row in rows] for rows in positions]
    assert [[sorted(row[:-bank]) for row in rows] for rows in held] == [
        [sorted(row[:-bank]) for row in rows] for rows in positions
    ]
    assert count_hooks(live) == 0
    assert equal_states(state_of(live), before)
