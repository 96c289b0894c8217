"""Muon for matrices and convolution kernels, AdamW for everything else.

Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024). torch's own takes matrices only; kernels
are matrices here of output channels by all else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose update has all singular values near 1."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - MOMENTUM)
                update = _orthogonal(parameter.grad.lerp(momentum, MOMENTUM).flatten(1))
                wider = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * wider)


class Optimizers:
    """Both, over the parameters of some modules.

    Args:
        modules: what is trained; its parameters that want no gradient are left alone.
        muon, adam: learning rates.
    """

    def __init__(self, modules: Iterable[nn.Module], muon: float, adam: float) -> None:
        named = [pair for module in modules for pair in module.named_parameters() if pair[1].requires_grad]
        hidden = [parameter for name, parameter in named if parameter.ndim >= 2 and _is_hidden(name)]
        chosen = {id(parameter) for parameter in hidden}
        others = [parameter for _, parameter in named if id(parameter) not in chosen]
        self.parameters = [parameter for _, parameter in named]
        self._optimizers = [Muon(hidden, muon), torch.optim.AdamW(others, adam, betas=(0.9, 0.98), weight_decay=0.0)]
        self._rates = (muon, adam)

    def step(self, loss: Tensor, share: float) -> None:
        """One step down a loss, at a share of the learning rates."""
        for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self._optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return {str(i): optimizer.state_dict() for i, optimizer in enumerate(self._optimizers)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for i, optimizer in enumerate(self._optimizers):
            optimizer.load_state_dict(state_dict[str(i)])


def _is_hidden(name: str) -> bool:
    """Not a norm, a table or an embedding."""
    return not any(part in name for part in ("gamma", "norm", "table", "shared", "embed_tokens", "relative_attention"))


def _orthogonal(update: Tensor) -> Tensor:
    """The nearest matrix with singular values near 1, by Newton and Schulz, in bfloat16."""
    x = update.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(update.dtype)
