"""Half precision is used where the device computes in it, and nowhere else."""

from __future__ import annotations

import precision
import pytest
import torch
from precision import autocast, has_bfloat16


@pytest.fixture(autouse=True)
def fresh():
    has_bfloat16.cache_clear()
    yield
    has_bfloat16.cache_clear()


@pytest.mark.parametrize(("name", "native"), [("avx512_bf16", True), ("amx_bf16", True), ("avx2", False)])
def test_a_processor_is_asked(monkeypatch, name, native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": False, "avx512_bf16": False, name: True})
    assert has_bfloat16("cpu") is native
    x = torch.ones(2, 2)
    with autocast("cpu"):
        assert (x @ x).dtype == (torch.bfloat16 if native else torch.float32)
    with autocast("cpu", enabled=False):
        assert (x @ x).dtype == torch.float32


def test_a_gpu_is_asked_for_more_than_an_imitation(monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: asked.append(including_emulation) or False
    )
    assert not has_bfloat16("cuda")
    assert asked == [False]


def test_names_are_those_of_torch():
    assert {"amx_bf16", "avx512_bf16"} <= set(precision.NATIVE)
    known = torch.cpu.get_capabilities()
    if known["architecture"] == "x86_64":
        assert {"amx_bf16", "avx512_bf16"} <= set(known)
