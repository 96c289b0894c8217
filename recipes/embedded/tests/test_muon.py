"""Updates of matrices have singular values near 1; everything that is no matrix goes to AdamW."""

from __future__ import annotations

import muon
import pytest
import torch
from muon import Muon, Optimizers
from text import new_text_encoder
from torch import nn

from vace_adapt.embedded.tiny import TINY, tiny_context_path, tiny_vae
from vace_adapt.models.causal_wan import CausalWan

pytestmark = pytest.mark.usefixtures("gradients")

LINEAR = (nn.Linear, nn.Conv2d, nn.Conv3d)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def is_nearly_orthogonal(matrix):
    values = torch.linalg.svdvals(matrix.float())
    assert 0.6 < values.min() <= values.max() < 1.3


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (24, 40), (5, 400)])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_an_update_has_singular_values_near_one(shape, size):
    update = size * randn(*shape)
    made = muon._orthogonal(update)
    assert (made.shape, made.dtype) == (update.shape, torch.float32)
    is_nearly_orthogonal(made)
    left, _, right = torch.linalg.svd(update, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(made.flatten(), (left @ right).flatten(), dim=0) > 0.97


def test_too_few_iterations_are_noticed(monkeypatch):
    monkeypatch.setattr(muon, "ITERATIONS", 1)
    with pytest.raises(AssertionError):
        is_nearly_orthogonal(muon._orthogonal(randn(16, 64)))


@pytest.mark.parametrize(("shape", "wider"), [((8, 32), 1), ((32, 8), 2), ((8, 4, 3, 3, 3), 1), ((64, 4, 2, 1, 2), 2)])
def test_a_step_is_such_an_update(shape, wider):
    parameter = nn.Parameter(randn(*shape))
    before, parameter.grad = parameter.detach().clone(), randn(*shape, seed=1)
    Muon([parameter], lr=0.1).step()
    step = (before - parameter.detach()).flatten(1) / (0.1 * wider)
    is_nearly_orthogonal(step)
    assert (step * parameter.grad.flatten(1)).sum() > 0, "downwards"


def test_momentum_is_kept():
    parameter = nn.Parameter(randn(8, 8))
    optimizer = Muon([parameter], lr=0.1)
    for seed in (1, 2):
        parameter.grad = randn(8, 8, seed=seed)
        optimizer.step()
    expected = 0.95 * 0.05 * randn(8, 8, seed=1) + 0.05 * randn(8, 8, seed=2)
    assert torch.allclose(optimizer.state[parameter]["momentum"], expected, atol=1e-6)


MODULES = {
    "base": lambda: CausalWan.of(TINY),
    "context": lambda: tiny_context_path(0).requires_grad_(True),
    "text": lambda: new_text_encoder(20),
    "vae": lambda: tiny_vae(0).requires_grad_(True),
}


def go_where_they_belong(module):
    """Weights of linear and convolution layers go to Muon, everything else to AdamW, each once."""
    hidden, others = (
        [id(parameter) for parameter in optimizer.param_groups[0]["params"]]
        for optimizer in Optimizers([module], 0.1, 0.1)._optimizers
    )
    weights = {id(layer.weight) for layer in module.modules() if isinstance(layer, LINEAR)}
    assert set(hidden) == weights
    assert set(others) == {id(parameter) for parameter in module.parameters()} - weights
    assert len(hidden) + len(others) == len({*hidden, *others})
    assert hidden
    assert others


@pytest.mark.parametrize("name", MODULES)
def test_only_layers_go_to_muon(name):
    go_where_they_belong(MODULES[name]())


def test_a_table_in_muon_is_noticed(monkeypatch):
    monkeypatch.setattr(muon, "_is_hidden", lambda name: True)
    for build in MODULES.values():
        with pytest.raises(AssertionError):
            go_where_they_belong(build())


def test_frozen_parameters_do_not_change():
    module = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2))
    module[1].requires_grad_(False)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    Optimizers([module], 0.1, 0.1).step(module(randn(3, 4)).square().mean(), 1.0)
    changed = {name for name, parameter in module.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_a_step_goes_as_far_as_its_share():
    def moved(share):
        torch.manual_seed(0)
        module = nn.Linear(4, 6)
        before = [parameter.detach().clone() for parameter in module.parameters()]
        Optimizers([module], 0.1, 0.1).step(module(randn(3, 4)).square().mean(), share)
        return [b - parameter.detach() for b, parameter in zip(before, module.parameters(), strict=True)]

    for whole, half, none in zip(moved(1.0), moved(0.5), moved(0.0), strict=True):
        assert torch.allclose(whole, 2 * half, atol=1e-6)
        assert whole.abs().max() > 1e-3
        assert not none.any()
