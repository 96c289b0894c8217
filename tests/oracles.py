"""What must be true of every stream, as functions that raise AssertionError: used by the tests, and by the mutants that
show that each of them can fail."""

from __future__ import annotations

import gc
from typing import Any
from unittest import mock

import numpy as np
import torch
from support import HEIGHT, WIDTH, distance, frames, picture, same, stream

from vace_adapt import load_pipeline
from vace_adapt.context.blocks import ContextBlock
from vace_adapt.context.references import ReferenceRows


def no_hints_is_the_base(pipe: Any, base: Any) -> None:
    assert same(stream(pipe, 5, control=False), stream(base, 5, control=False))


def scale_zero_is_the_base(pipe: Any, base: Any) -> None:
    """And the context path does not run."""
    unwanted = AssertionError("the context path ran at scale 0")
    with mock.patch.object(ContextBlock, "forward", mock.Mock(side_effect=unwanted)):
        silent = stream(pipe, 5, scale=0.0, references=[picture()])
    assert same(silent, stream(base, 5, control=False))


def zero_hints_are_the_base(base: Any) -> None:
    pipe = load_pipeline("longlive", seed=0, device="cpu", dtype="float32")
    for block in pipe.context.vace_blocks:
        torch.nn.init.zeros_(block.proj_out.weight)
        torch.nn.init.zeros_(block.proj_out.bias)
    assert same(stream(pipe, 5, references=[picture()]), stream(base, 5, control=False))


def cached_references_equal_recomputed_ones(pipe: Any) -> None:
    """Over a prompt switch and a change of references."""

    def recomputed(self, step, *args, negative=False):
        self._compute(step, *args)
        return self._memory[step]

    kept = _changing(pipe)
    with mock.patch.object(ReferenceRows, "remembered", recomputed):
        anew = _changing(pipe)
    assert same(kept, anew)


def _changing(pipe: Any) -> list[torch.Tensor]:
    made = []
    with pipe.stream("a red ball", height=HEIGHT, width=WIDTH, references=[picture(1), picture(2)]) as session:
        session.feed(frames(9 + 4 * 12), last=True)
        for index, change in enumerate(({}, {}, {"prompt": "a dog"}, {"references": [picture(3)]}, {})):
            session.update(**change)
            assert session._index == index
            made.append(next(session).latents.clone())
    return made


def a_batch_of_two_equals_two_streams(pipe: Any) -> None:
    both = stream(pipe, 3, seed=[4, 7], references=[[picture(1)], [picture(2)]], prompt=["a red ball", "a dog"])
    for row, (seed, prompt) in enumerate(((4, "a red ball"), (7, "a dog"))):
        alone = stream(pipe, 3, seed=seed, references=[picture(row + 1)], prompt=prompt)
        assert distance([chunk[row : row + 1] for chunk in both], alone) < 1e-4


def interleaved_streams_do_not_meet(pipe: Any) -> None:
    alone = [stream(pipe, 3, seed=s, references=[picture(s)]) for s in range(2)]
    sessions = [
        pipe.stream("a red ball", height=HEIGHT, width=WIDTH, seed=s, references=[picture(s)], num_frames=33)
        for s in range(2)
    ]
    for session in sessions:
        session.feed(frames(33), last=True)
    made: list[list[torch.Tensor]] = [[], []]
    for _ in range(3):
        for session, parts in zip(sessions, made, strict=True):
            parts.append(next(session).latents.clone())
    assert all(same(a, b) for a, b in zip(alone, made, strict=True))


def nothing_grows(pipe: Any, chunks: int, settled: int, **options: Any) -> None:
    """Controlled, with references and a prompt switch now and then; compared from chunk `settled` on."""
    side = 16
    fed = np.random.default_rng(0).integers(0, 256, (12, side, side, 3), dtype=np.uint8)
    cache_bytes, tensor_bytes, pointers = set(), [], set()
    with pipe.stream("a", height=side, width=side, references=[picture()], **options) as session:
        for index in range(chunks):
            session.feed(fed[: session.shapes.time.pixels(index)])
            if index % 100 == 50:
                session.update(prompt=f"prompt {index}")
            chunk = next(session)
            assert torch.isfinite(chunk.latents).all()
            cache_bytes.add(chunk.report.cache_bytes)
            pointers.add(tuple(t.data_ptr() for t in session.cache.tensors().values()))
            del chunk
            if index in (settled, chunks - 1):
                tensor_bytes.append(_live_tensor_bytes())
    assert len(cache_bytes) == 1
    assert len(pointers) == 1, "the same buffers for the whole stream"
    assert tensor_bytes[1] <= tensor_bytes[0]


def _live_tensor_bytes() -> int:
    """Bytes of every dense tensor Python holds."""
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)
    tensors = [found for found in gc.get_objects() if type(found) in kinds and found.layout == torch.strided]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
