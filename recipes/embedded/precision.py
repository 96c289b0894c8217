"""Half precision where the device computes in it."""

from __future__ import annotations

from functools import cache

import torch

NATIVE = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
"""What CPUs call it."""


def autocast(device: str, *, enabled: bool = True) -> torch.autocast:
    """bfloat16 on devices that compute in it; elsewhere float32, which is far faster than bfloat16 that is imitated."""
    return torch.autocast(device, torch.bfloat16, enabled=enabled and has_bfloat16(device))


@cache
def has_bfloat16(device: str) -> bool:
    """Whether a ``cpu`` or ``cuda`` device has instructions for it."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in NATIVE)
