"""bfloat16 and quantised weights, under control and with references."""

from __future__ import annotations

import pytest
import torch
from support import distance, picture, stream

from vace_adapt import load_pipeline

torchao = pytest.importorskip("torchao.quantization")


def relative(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """Root mean square difference over root mean square."""
    a_all, b_all = (torch.cat([chunk.flatten().float() for chunk in chunks]) for chunks in (a, b))
    return float((a_all - b_all).norm() / b_all.norm())


def test_bfloat16_follows_float32(pipe):
    half = load_pipeline("longlive", seed=0, device="cpu", dtype="bfloat16")
    found = stream(half, 3, references=[picture()])
    assert all(chunk.dtype == torch.bfloat16 for chunk in found)
    assert relative(found, stream(pipe, 3, references=[picture()])) < 0.1
    assert half.parts.model.blocks[0].scale_shift_table.dtype == torch.float32


def test_bfloat16_scale_zero_is_the_bfloat16_base():
    half = load_pipeline("longlive", seed=0, device="cpu", dtype="bfloat16")
    silent = stream(half, 3, scale=0.0)
    half.detach()
    assert all(torch.equal(a, b) for a, b in zip(silent, stream(half, 3, control=False), strict=True))


@pytest.mark.parametrize("target", ["base", "context", "both"])
def test_int8_weights_follow_float32(pipe, target):
    quantised = load_pipeline("longlive", seed=0, device="cpu", dtype="float32")
    modules = {"base": [quantised.parts.model], "context": [quantised.context]}
    for module in modules.get(target) or [*modules["base"], *modules["context"]]:
        torchao.quantize_(module, torchao.Int8WeightOnlyConfig())
    found, expected = (stream(p, 3, references=[picture()]) for p in (quantised, pipe))
    assert distance(found, expected) > 1e-4, "weights were really quantised"
    assert relative(found, expected) < 0.1


def test_int8_keeps_its_oracles():
    """Scale 0 and no hints are the quantised base, bit for bit."""
    quantised = load_pipeline("longlive", seed=0, device="cpu", dtype="float32")
    torchao.quantize_(quantised.parts.model, torchao.Int8WeightOnlyConfig())
    torchao.quantize_(quantised.context, torchao.Int8WeightOnlyConfig())
    silent = stream(quantised, 2, scale=0.0)
    controlled = stream(quantised, 2)
    quantised.detach()
    bare = stream(quantised, 2, control=False)
    assert all(torch.equal(a, b) for a, b in zip(silent, bare, strict=True))
    assert distance(controlled, bare) > 1e-3
