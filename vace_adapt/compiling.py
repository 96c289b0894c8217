"""What a stream needs to run under `torch.compile` with one graph for all blocks of a kind and no recompilation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_lock = threading.Lock()
_eager_users = 0
_stance: Any = None


@contextmanager
def eagerly(compiled: bool) -> Iterator[None]:
    """Run compiled blocks eagerly within it: for rare passes of another shape, which are not worth a graph.

    The compiler's stance belongs to the process, so it is changed by the first of several threads and put back by the
    last; another thread's compiled blocks may run eagerly meanwhile.
    """
    global _eager_users, _stance
    if not compiled:
        yield
        return
    with _lock:
        _eager_users += 1
        if _eager_users == 1:
            _stance = torch.compiler.set_stance("force_eager")
    try:
        yield
    finally:
        with _lock:
            _eager_users -= 1
            if _eager_users == 0:
                _stance.__exit__(None, None, None)


def mark_growing(tensor: Tensor, dim: int) -> None:
    """Tell the compiler that this dimension changes within a stream, so that the first graph serves every length."""
    torch._dynamo.mark_dynamic(tensor, dim)
