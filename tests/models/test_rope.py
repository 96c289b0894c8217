from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

from vace_adapt.attention.rope import RotaryGrid, rotate

CPU = torch.device("cpu")


@pytest.mark.parametrize("head_dim", [12, 24, 128])
def test_equals_diffusers_tables_bit_for_bit(head_dim):
    theirs = WanRotaryPosEmbed(head_dim, (1, 2, 2), 1024)
    cos, sin = theirs(torch.zeros(1, 16, 7, 4, 6))
    ours = RotaryGrid(head_dim, (2, 3), CPU).at(range(7))
    assert torch.equal(ours.cos, cos[0, :, :, 0::2])
    assert torch.equal(ours.sin, sin[0, :, :, 1::2])


def test_positions_do_not_run_out():
    grid = RotaryGrid(24, (2, 3), CPU)
    query, key = torch.randn(1, 6, 2, 24), torch.randn(1, 6, 2, 24)

    def score(start: int) -> torch.Tensor:
        return (rotate(query, grid.at([start + 5])).double() * rotate(key, grid.at([start])).double()).sum(-1)

    near, far = score(0), score(1_000_000)
    assert torch.allclose(near, far, atol=1e-4), "rotation depends on the distance only, also far out"


def test_rotation_keeps_dtype_and_length():
    x = torch.randn(2, 6, 2, 24, dtype=torch.bfloat16)
    turned = rotate(x, RotaryGrid(24, (2, 3), CPU).at([3]))
    assert turned.dtype == x.dtype
    assert torch.allclose(turned.float().norm(dim=-1), x.float().norm(dim=-1), rtol=1e-2)
