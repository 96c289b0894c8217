"""What several tests need: golden files, inputs, and recorded streams."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"

HEIGHT, WIDTH = 32, 48
"""The smallest size with a grid that is not square."""


def golden(name: str) -> Path:
    return GOLDEN / f"{name}.safetensors"


def golden_names(pipeline: str) -> list[str]:
    return sorted(f"{pipeline}/{path.stem}" for path in (GOLDEN / pipeline).glob("*.safetensors"))


def frames(count: int, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray[Any, Any]:
    """Random control frames, uint8 [T, H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def picture(seed: int = 0, height: int = 40, width: int = 30) -> np.ndarray[Any, Any]:
    """A random reference image, uint8 [H, W, 3]."""
    return np.random.default_rng(1000 + seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def opened(pipe: Any, **options: Any) -> Any:
    """A session of the smallest size, fed with nothing yet."""
    return pipe.stream(**{"prompt": "a red ball", "height": HEIGHT, "width": WIDTH, "seed": 0, **options})


def stream(pipe: Any, chunks: int = 3, control: bool = True, **options: Any) -> list[Tensor]:
    """Latents of a short stream, chunk by chunk."""
    with opened(pipe, num_frames=9 + 12 * (chunks - 1), **options) as session:
        if control:
            batch = session.batch
            fed = frames(9 + 12 * (chunks - 1))
            session.feed(fed if batch == 1 else np.stack([fed] * batch), last=True)
        return [chunk.latents.clone() for chunk in session]


def run(session: Any, control: Any, mask: Any = None, **options: Any) -> list[Any]:
    """All chunks of a stream that is fed at once."""
    with session:
        session.feed(control, mask, last=True, **options)
        return list(session)


def shown(chunks: list[Any]) -> np.ndarray[Any, Any]:
    """What VACE was shown: uint8 [T, H, W, 3]."""
    return np.concatenate([chunk.control[0].numpy() for chunk in chunks])


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Whether two streams are equal bit for bit."""
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest abs difference of two streams."""
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


def patch(owner: Any, name: str, change: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """A mutant: an attribute replaced by what `change` makes of it."""
    return lambda monkeypatch: monkeypatch.setattr(owner, name, change(getattr(owner, name)))
