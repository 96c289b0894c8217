"""`pipe.compile()` where hints enter by hooks: the hooks run beside the graphs, and a graph serves all blocks of a kind."""

from __future__ import annotations

import pytest
import torch
from support import distance, frames, picture
from torch._dynamo.utils import counters

from vace_adapt import load_pipeline


@pytest.fixture
def graphs():
    """Number of graphs made so far; a recompilation is an error."""
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


def opened(backend):
    return load_pipeline("framepack", seed=0, device="cpu", settings={"backend": backend, "steps": 1, "guidance": 1.0})


def stream(pipe, count, references):
    with pipe.stream("a red ball", num_frames=count, height=32, width=48, references=references) as session:
        session.feed(frames(count), last=True)
        return [chunk.latents.clone() for chunk in session]


@pytest.mark.parametrize(
    ("backend", "count", "references"), [("wan", 66, [picture()]), ("hunyuan", 73, [])], ids=["wan", "hunyuan"]
)
def test_two_graphs_serve_a_stream(graphs, backend, count, references):
    """Of Wan the base's block and the context block, of HunyuanVideo the dual and the single block."""
    compiled = opened(backend).compile(backend="aot_eager")
    expected = stream(opened(backend), count, references)
    assert distance(stream(compiled, count, references), expected) < 1e-5
    assert graphs() == 2
    if references:
        silent = stream(opened(backend), count, [])
        assert distance(silent, expected) > 1e-3, "hints are heard"
