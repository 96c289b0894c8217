from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.ring import RingCache, RingSpec
from vace_adapt.cache.text import TextMemory
from vace_adapt.context.blocks import ContextPath
from vace_adapt.context.chunk import ChunkContext
from vace_adapt.context.references import References
from vace_adapt.context.stream import ContextStream
from vace_adapt.contract import BlockInputs, Hints
from vace_adapt.embedded.tiny import TINY, TINY_CONTROL_LAYERS, seeded, tiny_context_path
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.scale import HintScale

CPU = torch.device("cpu")
GRID = (2, 3)
FRAMES = 3
STEPS = 4


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass
class Tiny:
    """A tiny base and context path, and one bidirectional pass of both."""

    model: CausalWan
    path: ContextPath
    embeds: Tensor

    def context(self, form="joint", **scale) -> ContextStream:
        rope = RotaryGrid(TINY.head_dim, GRID, CPU)
        return ContextStream(self.path, self.model.patch_embedding, rope, form, HintScale(**scale), STEPS)

    def text(self) -> TextMemory:
        memory = TextMemory(list(self.model.blocks))
        memory.write(self.model.embed_text(self.embeds))
        return memory

    def run(self, latents: Tensor, source, timestep: float = 700.0) -> tuple[Tensor, Hints]:
        """Output and hints of one chunk in an empty cache."""
        frames = latents.shape[2]
        cache = RingCache(
            RingSpec(frames, 0),
            RotaryGrid(TINY.head_dim, GRID, CPU),
            layers=TINY.layers,
            batch=latents.shape[0],
            heads=TINY.heads,
            head_dim=TINY.head_dim,
            dtype=torch.float32,
            device=CPU,
        )
        seen: dict[int, Tensor] = {}

        def recorded(inputs: BlockInputs) -> Hints:
            seen.update(source(inputs))
            return seen

        layers = partial(cache.layer, step=cache.chunk_pass(0, frames))
        timesteps = torch.full((latents.shape[0],), timestep)
        output = self.model(latents, timesteps, self.text(), layers, None if source is None else recorded)
        return output, seen


def chunk_context(
    context: ContextStream, control: Tensor | None, nothing: Tensor | None = None, **options
) -> ChunkContext:
    """The context of a chunk with control latents [B, 96, F, h, w], or of one with `nothing` in their place."""
    shown = nothing if control is None else control
    return ChunkContext(context, (shown.shape[0], shown.shape[2]), control, lambda: nothing, **options)


def references(count: int, seed: int = 5) -> References:
    control = randn(1, 96, count, 4, 6, seed=seed)
    control[:, 16:] = 0
    return References(control, control[:, :16].clone(), randn(1, 16, count, 4, 6, seed=seed + 1))


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    model = seeded(lambda: CausalWan.of(TINY), 3, "base")
    return Tiny(model, tiny_context_path(3), randn(1, TINY.text_len, TINY.text_dim))


@pytest.fixture
def fresh_path() -> ContextPath:
    """A context path of its own, for tests that change it."""
    return tiny_context_path(3)


LAYERS = TINY_CONTROL_LAYERS
