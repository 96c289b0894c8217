"""Nothing grows with the length of a stream."""

from __future__ import annotations

import gc

import numpy as np
import torch
from support import picture

HEIGHT = WIDTH = 16


def live_tensor_bytes() -> int:
    """Bytes of every tensor Python holds."""
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)
    storages = [found.untyped_storage() for found in gc.get_objects() if type(found) in kinds]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def test_memory_and_cache_are_constant_over_500_chunks(pipe):
    """Controlled, with references and a prompt switch now and then; well past the 1024 latent frames of upstream's
    tables."""
    fed = np.random.default_rng(0).integers(0, 256, (12, HEIGHT, WIDTH, 3), dtype=np.uint8)
    cache_bytes, tensor_bytes, pointers = set(), [], set()
    with pipe.stream("a", height=HEIGHT, width=WIDTH, references=[picture()]) as session:
        for index in range(500):
            session.feed(fed[: session.shapes.time.pixels(index)])
            if index % 100 == 50:
                session.update(prompt=f"prompt {index}")
            chunk = next(session)
            assert torch.isfinite(chunk.latents).all()
            cache_bytes.add(chunk.report.cache_bytes)
            pointers.add(tuple(t.data_ptr() for t in session.cache.tensors().values()))
            del chunk
            if index in (60, 499):
                tensor_bytes.append(live_tensor_bytes())
    assert session.shapes.time.latent_start(500) > 1024
    assert len(cache_bytes) == 1
    assert len(pointers) == 1, "the same buffers for the whole stream"
    assert tensor_bytes[1] <= tensor_bytes[0]
