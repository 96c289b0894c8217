"""What attention sees, and what it must not see."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vace_adapt.attention.plain import attend as plain
from vace_adapt_conformance.check import check, expect, expect_bits, expect_other, expect_same
from vace_adapt_conformance.scripted import Run, Script
from vace_adapt_conformance.subject import Subject


@check("attention")
def wrapped_attention_is_attention(subject: Subject) -> None:
    """`vace_wrap_attention` gives softmax(QK/sqrt d)V over exactly the keys it gets, to 1e-4, in its own dtype."""
    attend = subject.hooks.wrap_attention(plain, 0, subject.pipe.parts.model)
    query, key, value = _projections(5, 9)
    came = attend(query, key, value)
    q, k, v = (each.double().transpose(1, 2) for each in (query, key, value))
    expected = F.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1) @ v
    expect(came.shape == query.shape, f"attention gives {list(came.shape)}, expected {list(query.shape)}")
    expect(came.dtype == query.dtype, f"attention gives {came.dtype}, expected {query.dtype}")
    apart = float((came.double() - expected.transpose(1, 2)).abs().max())
    expect(apart < 1e-4, f"attention is {apart:.3g} off softmax(QK/sqrt d)V")


@check("attention")
def wrapped_attention_remembers_nothing(subject: Subject) -> None:
    """The wrapped attention gives the same for the same rows, whatever it was called with before."""
    attend = subject.hooks.wrap_attention(plain, 0, subject.pipe.parts.model)
    first = attend(*_projections(5, 9))
    attend(*_projections(5, 9, seed=1))
    attend(*_projections(4, 4, seed=2))
    expect_bits(attend(*_projections(5, 9)), first, "attention called again with the same rows")


@check("attention")
def the_past_is_seen(subject: Subject) -> None:
    """A chunk depends on the chunks before it: other noise in chunk 0 makes another chunk 1 of the same noise."""
    one, other = (_run(subject, Script(seeds=(seed,), seeds_at={1: (9,)})).make(2) for seed in (0, 1))
    expect_other(one[1], other[1], "chunk 1 behind another chunk 0")


@check("attention")
def the_prompt_is_seen(subject: Subject) -> None:
    """A chunk depends on its prompt."""
    one, other = (_run(subject, Script(prompts={0: prompt})).next() for prompt in ("a red ball", "two dogs run"))
    expect_other(one, other, "chunk 0 under another prompt")


@check("attention")
def unused_memory_is_not_seen(subject: Subject) -> None:
    """What a fresh memory happens to hold takes no part in anything: no empty slot is attended to."""
    clean, dirty = _run(subject), _run(subject)
    expect(set(clean.cache.positions()) <= {-1}, "a fresh memory says that it holds latent frames")
    for tensor in dirty.cache.tensors().values():
        if tensor.is_floating_point():
            tensor.fill_(3.0)
    expect_same(dirty.make(2), clean.make(2), "a stream over a memory that held something else")


def _run(subject: Subject, script: Script | None = None) -> Run:
    return Run(subject.pipe, (subject.height, subject.width), script)


def _projections(queries: int, keys: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Query [2, L, 2, 24], key and value [2, K, 2, 24]."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn((2, queries, 2, 24), generator=generator)
    key, value = (torch.randn((2, keys, 2, 24), generator=generator) for _ in range(2))
    return query, key, value
