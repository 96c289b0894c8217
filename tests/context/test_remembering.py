"""What is computed once: control tokens for each chunk, text keys and values for each prompt."""

from __future__ import annotations

import pytest

from vace_adapt.context.blocks import ContextPath

from .conftest import FRAMES, LAYERS, chunk_context, randn, references


@pytest.fixture
def calls(tiny):
    """How often the modules that depend on less than a pass have run."""
    seen = {"patch_embedding": 0, "before_proj": 0, "text_keys": 0}

    def count(name):
        def hook(module, args, output):
            seen[name] += 1

        return hook

    first = tiny.path.vace_blocks[0]
    handles = [
        tiny.path.vace_patch_embedding.register_forward_hook(count("patch_embedding")),
        first.proj_in.register_forward_hook(count("before_proj")),
        *(block.attn2.to_k.register_forward_hook(count("text_keys")) for block in tiny.path.vace_blocks),
    ]
    yield seen
    for handle in handles:
        handle.remove()


def test_control_tokens_once_a_chunk_and_text_keys_once_a_prompt(tiny, calls):
    context = tiny.context("cached")
    for chunk in range(3):
        control = randn(1, 96, FRAMES, 4, 6, seed=chunk)
        context_chunk = chunk_context(context, control)
        for step in range(4):
            tiny.run(randn(1, 16, FRAMES, 4, 6), context_chunk.source(step, 0.7))
    assert calls == {"patch_embedding": 3, "before_proj": 3, "text_keys": len(LAYERS)}
    context.set_prompt()
    tiny.run(randn(1, 16, FRAMES, 4, 6), context_chunk.source(0, 0.7))
    assert calls == {"patch_embedding": 3, "before_proj": 3, "text_keys": 2 * len(LAYERS)}


def test_reference_tokens_once_for_as_long_as_they_hold(tiny, calls):
    context = tiny.context("joint")
    context.set_references(references(2))
    for chunk in range(3):
        control = randn(1, 96, FRAMES, 4, 6, seed=chunk)
        context_chunk = chunk_context(context, control)
        tiny.run(randn(1, 16, FRAMES, 4, 6), context_chunk.source(0, 0.7))
    assert calls["before_proj"] == 1 + 3


def test_nothing_is_projected_for_a_chunk_whose_hints_nobody_wants(tiny, monkeypatch):
    context = tiny.context(control=0.0)
    monkeypatch.setattr(ContextPath, "entry", None)
    control = randn(1, 96, FRAMES, 4, 6)
    context_chunk = chunk_context(context, control)
    assert context_chunk.source(0, 0.7) is None
