from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

torch.set_num_threads(1)  # in models this small, threads only wait for each other


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def pipe():
    """The tiny LongLive pipeline. Shared: tests must not change it."""
    from vace_adapt import load_pipeline

    return load_pipeline("longlive", seed=0, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def base():
    """The base model alone: the same weights without any context path."""
    from vace_adapt import load_pipeline

    pipe = load_pipeline("longlive", seed=0, device="cpu", dtype="float32")
    pipe.detach()
    return pipe
