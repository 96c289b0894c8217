"""`pipe.compile()` where hints enter by hooks: the hooks run beside the graphs, and a graph serves all blocks of a kind."""

from __future__ import annotations

import pytest
import torch
from support import distance, frames, picture
from torch._dynamo.utils import counters

from vace_adapt import load_pipeline


@pytest.fixture
def graphs():
    """Number of graphs made so far."""
    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


def opened(backend):
    return load_pipeline("framepack", seed=0, device="cpu", settings={"backend": backend, "steps": 1, "guidance": 1.0})


def stream(pipe, count, references):
    with pipe.stream("a red ball", num_frames=count, height=32, width=48, references=references) as session:
        session.feed(frames(count), last=True)
        return [chunk.latents.clone() for chunk in session]


def test_hints_are_added_beside_the_graphs(graphs):
    compiled = opened("wan").compile(backend="aot_eager")
    expected = stream(opened("wan"), 66, [picture()])
    assert distance(stream(compiled, 66, [picture()]), expected) < 1e-5
    assert graphs() == 2, "the base's block and the context block"
    assert distance(stream(opened("wan"), 66, []), expected) > 1e-3, "hints are heard"


def test_hunyuan_has_blocks_of_two_kinds(graphs):
    compiled = opened("hunyuan").compile(backend="aot_eager")
    assert distance(stream(compiled, 37, []), stream(opened("hunyuan"), 37, [])) < 1e-5
    assert graphs() == 4, "the dual and the single block, and the first of each: its text lies otherwise in memory"
    stream(compiled, 73, [])
    assert graphs() == 4
