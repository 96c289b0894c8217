"""The native model against diffusers': same keys, same bits."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from diffusers import WanTransformer3DModel

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.ring import RingCache, RingSpec
from vace_adapt.cache.text import TextMemory
from vace_adapt.embedded.tiny import TINY, seeded
from vace_adapt.models.causal_wan import CausalWan

CPU = torch.device("cpu")


def theirs_of(model: CausalWan) -> WanTransformer3DModel:
    config = {key: value for key, value in model.config.items() if not key.startswith("_")}
    other = WanTransformer3DModel(**config).eval()
    other.load_state_dict(model.state_dict())
    return other


def ring(slots: int, grid: tuple[int, int] = (2, 3), **spec: int) -> RingCache:
    return RingCache(
        RingSpec(slots, **{"sink": 0, **spec}),
        RotaryGrid(TINY.head_dim, grid, CPU),
        layers=TINY.layers,
        batch=1,
        heads=TINY.heads,
        head_dim=TINY.head_dim,
        dtype=torch.float32,
        device=CPU,
    )


@pytest.fixture(scope="module")
def model():
    return seeded(lambda: CausalWan.of(TINY), 3, "base")


def text_of(model, seed=0):
    embeds = torch.randn(1, TINY.text_len, TINY.text_dim, generator=torch.Generator().manual_seed(seed))
    memory = TextMemory(list(model.blocks))
    memory.write(model.embed_text(embeds))
    return embeds, memory


@pytest.mark.parametrize("cross_attn_norm", [True, False])
def test_one_bidirectional_chunk_equals_diffusers_bit_for_bit(cross_attn_norm):
    backbone = TINY.model_copy(update={"cross_attn_norm": cross_attn_norm})
    model = seeded(lambda: CausalWan.of(backbone), 3, "base")
    latents, timestep = torch.randn(1, 16, 5, 4, 6), torch.tensor([700.0])
    embeds, memory = text_of(model)
    cache = ring(5)
    ours = model(latents, timestep, memory, partial(cache.layer, step=cache.chunk_pass(0, 5)))
    assert torch.equal(ours, theirs_of(model)(latents, timestep, embeds).sample)


def test_state_dict_keys_are_diffusers(model):
    assert model.state_dict().keys() == theirs_of(model).state_dict().keys()


def test_chunks_see_the_past_and_only_the_past(model):
    _, memory = text_of(model)
    latents, timestep = torch.randn(1, 16, 6, 4, 6), torch.tensor([0.0])

    def run(latents):
        cache = ring(6)
        return [
            model(latents[:, :, i : i + 3], timestep, memory, partial(cache.layer, step=cache.chunk_pass(i, 3)))
            for i in (0, 3)
        ]

    before = run(latents)
    changed = latents.clone()
    changed[:, :, 5] += 1
    later = run(changed)
    assert torch.equal(before[0], later[0])
    assert not torch.equal(before[1], later[1])
    changed = latents.clone()
    changed[:, :, 0] += 1
    assert not torch.equal(before[1], run(changed)[1])


def test_text_memory_is_rewritten_in_place(model):
    embeds, memory = text_of(model)
    pointers = [tensor.data_ptr() for tensor in memory.tensors().values()]
    before = [tensor.clone() for tensor in memory.tensors().values()]
    kept = memory.snapshot()
    memory.write(model.embed_text(embeds * 2))
    assert [tensor.data_ptr() for tensor in memory.tensors().values()] == pointers
    assert not any(torch.equal(a, b) for a, b in zip(before, memory.tensors().values(), strict=True))
    memory.restore(kept)
    assert all(torch.equal(a, b) for a, b in zip(before, memory.tensors().values(), strict=True))
