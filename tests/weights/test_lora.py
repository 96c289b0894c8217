"""A LoRA as LongLive ships it: merged or live, strict, under control."""

from __future__ import annotations

import pytest
import torch
from support import distance, same, stream

from vace_adapt import load_pipeline
from vace_adapt.embedded.tiny import TINY, seeded
from vace_adapt.errors import CheckpointError
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.weights.lora import load_lora

RANK = 4
LINEARS = (*(f"{a}.{p}" for a in ("self_attn", "cross_attn") for p in "qkvo"), "ffn.0", "ffn.2")
"""The ten adapted layers of a block (NVlabs/LongLive v1.0 utils/lora_utils.py)."""


def shipped(rank: int = RANK, seed: int = 0) -> dict[str, torch.Tensor]:
    """``generator_lora`` as peft writes it."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for block in range(TINY.layers):
        for linear in LINEARS:
            wide_in = TINY.ffn_dim if linear == "ffn.2" else TINY.dim
            wide_out = TINY.ffn_dim if linear == "ffn.0" else TINY.dim
            stem = f"base_model.model.blocks.{block}.{linear}"
            state[f"{stem}.lora_A.weight"] = torch.randn(rank, wide_in, generator=generator) * 0.1
            state[f"{stem}.lora_B.weight"] = torch.randn(wide_out, rank, generator=generator) * 0.1
    return state


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "lora.pt"
    torch.save({"generator_lora": shipped()}, path)
    return str(path)


def model():
    return seeded(lambda: CausalWan.of(TINY), 0, "base")


def merged_by_hand(alpha: float) -> dict[str, torch.Tensor]:
    from vace_adapt.weights.wan_keys import to_diffusers

    state, lora = model().state_dict(), shipped()
    for name in [name for name in lora if ".lora_A." in name]:
        target = to_diffusers(name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight"))
        state[target] = state[target] + alpha / RANK * lora[name.replace("lora_A", "lora_B")] @ lora[name]
    return state


@pytest.mark.parametrize("alpha", [4.0, 8.0])
def test_merged_weights_are_the_update_added(file, alpha):
    found = model()
    load_lora(found, file, rank=RANK, alpha=alpha, merge=True)
    expected = merged_by_hand(alpha)
    assert found.state_dict().keys() == expected.keys(), "nothing of peft stays"
    assert all(torch.allclose(found.state_dict()[name], tensor, atol=1e-6) for name, tensor in expected.items())


def test_live_equals_merged_and_can_be_switched_off(file):
    base, live, merged = (load_pipeline("longlive", seed=0, device="cpu") for _ in range(3))
    load_lora(live.parts.model, file, rank=RANK, alpha=4.0, merge=False)
    load_lora(merged.parts.model, file, rank=RANK, alpha=4.0, merge=True)
    plain, by_side, fused = stream(base, 4), stream(live, 4), stream(merged, 4)
    assert distance(by_side, fused) < 1e-4
    assert distance(by_side, plain) > 0.01
    live.parts.model.disable_lora()
    assert same(stream(live, 4), plain)


def test_hints_are_those_of_the_adapted_model(file):
    """The context path sees the adapted base, and the LoRA never lands on the context blocks."""
    pipe = load_pipeline("longlive", seed=0, device="cpu")
    keys = set(pipe.context.state_dict())
    load_lora(pipe.parts.model, file, rank=RANK, alpha=4.0, merge=False)
    assert set(pipe.context.state_dict()) == keys
    assert distance(stream(pipe, 2), stream(pipe, 2, scale=0.0)) > 0.01


def refused(file_state, tmp_path, text, rank=RANK):
    path = tmp_path / "bad.pt"
    torch.save(file_state, path)
    found = model()
    before = {name: tensor.clone() for name, tensor in found.state_dict().items()}
    with pytest.raises(CheckpointError, match=text):
        load_lora(found, str(path), rank=rank, alpha=4.0, merge=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in found.state_dict().items())


def test_what_is_refused(tmp_path):
    state = shipped()
    refused({"generator_lora": state}, tmp_path, "is a LoRA of rank 4, the settings say 256", rank=256)
    refused(
        {**state, "blocks.0.norm3.weight": torch.ones(3)}, tmp_path, "is not a LoRA: it has 'blocks.0.norm3.weight'"
    )
    other = {name.replace("blocks.3", "blocks.7"): tensor for name, tensor in state.items()}
    refused(
        other, tmp_path, "adapts 'base_model.model.blocks.7.self_attn.q.lora_A.weight', which the model does not have"
    )
    narrow = dict(state)
    name = "base_model.model.blocks.0.ffn.2.lora_A.weight"
    narrow[name] = torch.ones(RANK, 7)
    refused(narrow, tmp_path, "lora_A.weight' has width 7, the model's layer has 96")
    del narrow[name]
    refused(narrow, tmp_path, "is damaged: .* has no partner")
