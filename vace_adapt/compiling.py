"""What a stream needs to run under `torch.compile` with one graph for all blocks of a kind and no recompilation."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def eagerly(compiled: bool) -> AbstractContextManager[object]:
    """Run compiled blocks eagerly within it: for rare passes of another shape, which are not worth a graph."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def mark_growing(tensor: Tensor, dim: int) -> None:
    """Tell the compiler that this dimension changes within a stream, so that the first graph serves every length."""
    torch._dynamo.mark_dynamic(tensor, dim)
