"""The benchmark is a script whose modules lie beside it: its folder is on the path while it is tested."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[2] / "benchmarks"), str(Path(__file__).parent)]


@pytest.fixture(scope="session")
def models():
    """The tiny ones."""
    import torch
    from timing.sizes import SIZES, Models

    return Models(SIZES["tiny"], torch.device("cpu"), torch.float32)
