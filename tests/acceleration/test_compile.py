"""`torch.compile` of the blocks: one graph for each kind of block, no recompilation over a stream, same result."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from support import distance, frames, picture, stream
from torch._dynamo.utils import counters

from vace_adapt import load_pipeline
from vace_adapt.compiling import eagerly
from vace_adapt_longlive import native


@pytest.fixture
def graphs():
    """Number of graphs made so far; a recompilation is an error."""
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


def switched(pipe, chunks: int, references, **options) -> list[torch.Tensor]:
    """A controlled stream that fills its window, slides, and switches its prompt."""
    made = []
    with pipe.stream("a red ball", height=32, width=48, references=references, **options) as session:
        session.feed(frames(session.shapes.time.pixel_start(chunks)), last=True)
        for index in range(chunks):
            if index == chunks - 2:
                session.update(prompt="a blue cube")
            made.append(next(session).latents.clone())
    return made


@pytest.mark.parametrize("references", [(), (picture(),)], ids=["control", "control+reference"])
@pytest.mark.parametrize("rope", ["absolute", "relative"])
def test_one_graph_for_each_kind_of_block_over_a_stream(graphs, references, rope):
    plain, compiled = (load_pipeline("longlive", seed=0, settings={"rope": rope}, device="cpu") for _ in range(2))
    expected = switched(plain, 8, references)
    compiled.compile(backend="aot_eager")
    assert distance(switched(compiled, 8, references), expected) < 1e-5
    assert graphs() == 2, "the base's block and the context block"
    switched(compiled, 3, references)
    assert graphs() == 2, "and none for another stream"


@pytest.mark.parametrize("form", ["cached", "joint"])
@pytest.mark.parametrize("chunk_latents", [1, 3])
def test_a_past_that_grows_takes_no_other_graph(graphs, form, chunk_latents):
    settings = {"chunk_latents": chunk_latents, "sink": chunk_latents}
    plain, compiled = (load_pipeline("longlive", seed=0, settings=settings, device="cpu") for _ in range(2))
    controls = {"context_frames": 4, "hint_reuse": 2, "reference_form": form}
    expected = switched(plain, 7, [picture()], controls=controls)
    compiled.compile(backend="aot_eager")
    assert distance(switched(compiled, 7, [picture()], controls=controls), expected) < 1e-5
    assert graphs() == 2, "the base's block and the context block"


def test_references_that_come_and_go_take_one_more_graph(graphs):
    pipe = load_pipeline("longlive", seed=0, device="cpu").compile(backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=False), pipe.stream("a", height=32, width=48) as session:
        session.feed(frames(9 + 12 * 5))
        for references in ([], [picture()], [picture(), picture(1)], [], [picture(2)], []):
            session.update(references=references)
            next(session)
    assert graphs() == 3


@pytest.mark.parametrize("rope", ["absolute", "relative"])
def test_reanchoring_takes_no_graph(graphs, rope):
    plain, compiled = (load_pipeline("longlive", seed=0, settings={"rope": rope}, device="cpu") for _ in range(2))
    controls = {"reanchor": {"every": 2, "source": "first"}}
    expected = switched(plain, 8, (), controls=controls)
    compiled.compile(backend="aot_eager")
    assert distance(switched(compiled, 8, (), controls=controls), expected) < 1e-5
    assert graphs() == 2


def test_a_rebuilding_pass_that_is_compiled_is_noticed(graphs, monkeypatch):
    monkeypatch.setattr(native, "eagerly", lambda compiled: nullcontext())
    pipe = load_pipeline("longlive", seed=0, device="cpu").compile(backend="aot_eager")
    with pytest.raises(torch._dynamo.exc.RecompileError):
        switched(pipe, 4, (), controls={"reanchor": {"every": 3, "source": "first"}})


def test_rare_eager_passes_leave_the_compilers_stance_alone():
    compiled = torch.compile(lambda x: x + 1, backend="eager")
    compiled(torch.ones(2))
    other = torch.ones(2, dtype=torch.float64)
    with torch.compiler.set_stance("fail_on_recompile"):
        with eagerly(True):
            compiled(other)
        with pytest.raises(RuntimeError, match="fail_on_recompile"):
            compiled(other)


def test_inductor_gives_the_same_stream(graphs):
    plain, compiled = (load_pipeline("longlive", seed=0, device="cpu") for _ in range(2))
    compiled.compile()
    assert distance(stream(compiled, 3), stream(plain, 3)) < 1e-4
    assert graphs() == 2
