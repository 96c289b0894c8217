"""Hooks on a foreign model: hints land where they should, nothing else changes, and everything comes off again."""

from __future__ import annotations

import copy
import pickle
import threading
import weakref
from functools import partial

import pytest
import torch
from torch import nn

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.ring import RingCache, RingSpec
from vace_adapt.context.injection import Attachment
from vace_adapt.contract import BlockInputs, BlockMap, BlockSite
from vace_adapt.embedded.tiny import TINY
from vace_adapt.errors import AttachError
from vace_adapt.models.causal_wan import causal_wan_blocks

from .conftest import FRAMES, LAYERS, chunk_context, randn, references

WIDTH = 8


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x, *, e, words):
        return torch.tanh(self.linear(x)) + e[:, :1] + words.mean(), {"cache": "update"}


class Foreign(nn.Module):
    """Blocks that return a tuple and take keywords; `history` rows stand in front of the chunk's."""

    def __init__(self, history: int = 0):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.history = history

    def forward(self, x, e, words):
        x = torch.cat([torch.ones(x.shape[0], self.history, WIDTH), x], dim=1)
        for block in self.blocks:
            x, _ = block(x, e=e, words=words)
        return x[:, self.history :]


def sites(history: int = 0) -> BlockMap:
    def read(args, kwargs):
        return BlockInputs(args[0][:, history:], kwargs["e"], kwargs["words"])

    return BlockMap(
        tuple(
            BlockSite(f"blocks.{i}", read, lambda out: out[0], lambda out, hidden: (hidden, out[1])) for i in range(4)
        ),
        patch_embedding="blocks.0.linear",
    )


@pytest.fixture
def model():
    return Foreign()


INPUTS = (randn(2, 5, WIDTH), randn(2, 6, WIDTH, seed=1), randn(2, 3, WIDTH, seed=2))


def constant(*values: float, layers=(0, 2), rows: int = 5):
    return lambda found: {
        layer: torch.full((2, rows, WIDTH), value) for layer, value in zip(layers, values, strict=True)
    }


def outputs(model: nn.Module) -> list[torch.Tensor]:
    """Hidden states behind every block."""
    seen: list[torch.Tensor] = []
    handles = [block.register_forward_hook(lambda _, args, out: seen.append(out[0])) for block in model.blocks]
    model(*INPUTS)
    for handle in handles:
        handle.remove()
    return seen


def test_each_hint_lands_on_its_block_and_nowhere_else(model):
    attachment = Attachment(model, sites(), (0, 2))
    bare = outputs(model)
    with attachment.running(constant(1.0, 3.0)):
        hinted = outputs(model)
    assert torch.equal(hinted[0], bare[0] + 1)
    again = model.blocks[1](hinted[0], e=INPUTS[1], words=INPUTS[2])[0]
    assert torch.equal(hinted[1], again)
    assert torch.equal(hinted[2], model.blocks[2](hinted[1], e=INPUTS[1], words=INPUTS[2])[0] + 3)
    attachment.detach()


def test_the_source_sees_what_enters_block_0_once_per_pass(model):
    seen = []
    attachment = Attachment(model, sites(), (0, 2))
    with attachment.running(lambda found: seen.append(found) or {}):
        model(*INPUTS)
    (found,) = seen
    assert torch.equal(found.hidden, INPUTS[0])
    assert torch.equal(found.modulation, INPUTS[1])
    assert torch.equal(found.text, INPUTS[2])
    attachment.detach()


def test_without_a_source_the_model_runs_bare_bit_for_bit(model):
    bare = model(*INPUTS)
    attachment = Attachment(model, sites(), (0, 2))
    assert torch.equal(model(*INPUTS), bare)
    with attachment.running(None):
        assert torch.equal(model(*INPUTS), bare)
    with attachment.running(constant(0.0, 0.0)):
        assert torch.equal(model(*INPUTS), bare)
    attachment.detach()


def test_detach_restores_everything(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters, bare = [id(p) for p in model.parameters()], model(*INPUTS)
    attachment = Attachment(model, sites(), (0, 2))
    assert model.state_dict().keys() == before.keys(), "no key moves while attached"
    with attachment.running(constant(1.0, 1.0)):
        assert not torch.equal(model(*INPUTS), bare)
    attachment.detach()
    attachment.detach()
    assert torch.equal(model(*INPUTS), bare)
    assert [id(p) for p in model.parameters()] == parameters
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(b._forward_hooks or b._forward_pre_hooks for b in model.modules())
    pickle.loads(pickle.dumps(model))
    copy.deepcopy(model)


def test_attaching_twice_is_refused_until_detached(model):
    first = Attachment(model, sites(), (0, 2))
    with pytest.raises(AttachError, match="this model is attached already: detach it first"):
        Attachment(model, sites(), (0, 2))
    with first.running(constant(1.0, 1.0)):
        hinted = model(*INPUTS)
    first.detach()
    second = Attachment(model, sites(), (0, 2))
    first.detach()
    with second.running(constant(1.0, 1.0)):
        assert torch.equal(model(*INPUTS), hinted), "what was detached before does not touch it"
    with pytest.raises(AttachError):
        Attachment(model, sites(), (0, 2))
    second.detach()


def test_paths_that_lead_nowhere_change_nothing(model):
    wrong = BlockMap((*sites().sites[:3], BlockSite("blocks.9", *[lambda *a: None] * 3)), "x")
    with pytest.raises(AttachError, match="Foreign has no block at 'blocks.9'"):
        Attachment(model, wrong, (0, 2))
    with pytest.raises(AttachError, match="context layer 5 needs 6 blocks, the model has 4"):
        Attachment(model, sites(), (0, 5))
    assert not any(b._forward_hooks or b._forward_pre_hooks for b in model.modules())


def test_a_hint_of_another_length_is_an_error_never_a_slice(model):
    bare = model(*INPUTS)
    attachment = Attachment(model, sites(), (0, 2))
    text = r"hint \(2, 6, 8\) does not fit block 0's output \(2, 5, 8\)"
    with attachment.running(constant(1.0, 1.0, rows=6)), pytest.raises(AttachError, match=text):
        model(*INPUTS)
    assert torch.equal(model(*INPUTS), bare), "the model stays usable"
    attachment.detach()


def test_hints_that_were_not_used_are_an_error(model):
    """A model that was compiled as a whole and ran already does not see hooks that come later."""
    attachment = Attachment(model, sites(), (0, 2))
    with (
        pytest.raises(AttachError, match="ran without the hooks on its blocks"),
        attachment.running(constant(1.0, 1.0)),
    ):
        pass
    with attachment.running(None):
        pass
    attachment.detach()


def test_history_rows_in_front_of_the_chunk_are_not_touched():
    model = Foreign(history=3)
    attachment = Attachment(model, sites(3), (0, 2))
    bare = outputs(model)
    with attachment.running(constant(1.0, 1.0)):
        hinted = outputs(model)
    assert torch.equal(hinted[0][:, :3], bare[0][:, :3])
    assert torch.equal(hinted[0][:, 3:], bare[0][:, 3:] + 1)
    attachment.detach()


def test_threads_do_not_meet(model):
    attachment = Attachment(model, sites(), (0, 2))
    expected, wrong = {}, []
    for value in range(4):
        with attachment.running(constant(float(value), float(value))):
            expected[value] = model(*INPUTS)

    def work(value: int) -> None:
        with torch.no_grad():
            for _ in range(20):
                with attachment.running(constant(float(value), float(value))):
                    wrong.append(not torch.equal(model(*INPUTS), expected[value]))

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 80
    assert not any(wrong)
    attachment.detach()


def test_an_error_inside_a_pass_leaves_the_model_bare(model):
    attachment = Attachment(model, sites(), (0, 2))
    bare = model(*INPUTS)
    with pytest.raises(RuntimeError), attachment.running(constant(1.0, 1.0)):
        model(randn(2, 5, WIDTH + 1), *INPUTS[1:])
    assert torch.equal(model(*INPUTS), bare)
    attachment.detach()


def test_an_attached_model_can_be_forgotten():
    model = Foreign()
    Attachment(model, sites(), (0, 2))
    reference = weakref.ref(model)
    del model
    import gc

    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("hint_reuse", [1, 2])
def test_native_model_by_hooks_equals_native_model_by_argument(tiny, hint_reuse):
    """The two ways in which hints can enter are twins: same bits, of hints that are added again as well."""
    context = tiny.context("cached")
    context.set_references(references(1))
    control = randn(1, 96, FRAMES, 4, 6, seed=9)
    by_argument, by_hooks = [], []
    context_chunk = chunk_context(context, control, hint_reuse=hint_reuse)
    for step in range(2):
        by_argument.append(tiny.run(randn(1, 16, FRAMES, 4, 6, seed=step), context_chunk.source(step, 0.7))[0])

    cache = RingCache(
        RingSpec(FRAMES, 0), RotaryGrid(TINY.head_dim, (2, 3), torch.device("cpu")), layers=TINY.layers, batch=1,
        heads=TINY.heads, head_dim=TINY.head_dim, dtype=torch.float32, device=torch.device("cpu"),
    )  # fmt: skip
    attachment = Attachment(tiny.model, causal_wan_blocks(tiny.model), LAYERS)
    context_chunk = chunk_context(context, control, hint_reuse=hint_reuse)
    for step in range(2):
        with attachment.running(context_chunk.source(step, 0.7)):
            layers = partial(cache.layer, step=cache.chunk_pass(0, FRAMES))
            latents = randn(1, 16, FRAMES, 4, 6, seed=step)
            by_hooks.append(tiny.model(latents, torch.tensor([700.0]), tiny.text(), layers))
    attachment.detach()
    assert all(torch.equal(a, b) for a, b in zip(by_argument, by_hooks, strict=True))


def test_lora_put_on_after_attaching_is_felt_and_detach_leaves_it(model):
    import peft

    attachment = Attachment(model, sites(), (0, 2))
    with attachment.running(constant(1.0, 1.0)):
        before = model(*INPUTS)
    torch.manual_seed(1)
    config = peft.LoraConfig(r=2, target_modules=["linear"], init_lora_weights=False)
    peft.inject_adapter_in_model(config, model)
    bare = model(*INPUTS)
    with attachment.running(constant(1.0, 1.0)):
        after = model(*INPUTS)
    assert not torch.allclose(before, after, atol=1e-3)
    assert not torch.equal(bare, after)
    attachment.detach()
    assert torch.equal(model(*INPUTS), bare)


def test_quantised_after_attaching(model):
    torchao = pytest.importorskip("torchao.quantization")
    attachment = Attachment(model, sites(), (0, 2))
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    bare = model(*INPUTS)
    with attachment.running(constant(1.0, 1.0)):
        assert not torch.equal(model(*INPUTS), bare)
    attachment.detach()
    assert torch.equal(model(*INPUTS), bare)
