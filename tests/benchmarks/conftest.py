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


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch):
    """In a process this large it takes a second."""
    monkeypatch.setattr("gc.collect", lambda: 0)


@pytest.fixture
def undecoded(monkeypatch):
    """Chunks come out gray, which is cheaper."""
    import torch

    from vace_adapt.conditioning.vae import DecoderStream

    def gray(self, latents):
        batch, _, frames, height, width = latents.shape
        began, self._started = self._started, True
        return torch.zeros((batch, 3, 4 * frames - (0 if began else 3), 8 * height, 8 * width))

    monkeypatch.setattr(DecoderStream, "decode", gray)
