"""Noise that depends on seed, purpose and number only: the same on every device, in any order, after any history."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def draw(seeds: Sequence[int], purpose: str, number: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise, float32 on the CPU: [B, *shape], row r from ``seeds[r]``.

    A batch of streams with seeds a and b therefore equals the stream of seed a and the stream of seed b.
    """
    rows = []
    for seed in seeds:
        digest = hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        rows.append(torch.randn(tuple(shape), generator=generator))
    return torch.stack(rows)
