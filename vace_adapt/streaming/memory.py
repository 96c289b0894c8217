"""Peak memory, where the platform tells it."""

from __future__ import annotations

import sys

import torch


def peak_bytes(device: torch.device) -> int:
    """Peak memory of the device (CUDA), or peak resident memory of the process, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
