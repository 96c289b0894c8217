"""The stages are scripts that import one another by bare name: their folder is on the path while they are tested."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture
def gradients():
    """The other tests of this repository run without."""
    with torch.enable_grad():
        yield
