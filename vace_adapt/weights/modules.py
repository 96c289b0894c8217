"""Fill a module with a checkpoint's tensors, exactly, without ever holding both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from vace_adapt.errors import CheckpointError
from vace_adapt.weights.checkpoint import Checkpoint

Module = TypeVar("Module", bound=nn.Module)

FLOAT32_PARTS = ("time_embedder", "scale_shift_table", "norm1.", "norm2.", "norm3.")
"""Parameters that stay float32 in a half-precision Wan model, as diffusers' ``_keep_in_fp32_modules`` says."""


def fill(
    build: Callable[[], Module],
    checkpoint: Checkpoint,
    names: Mapping[str, str],
    device: torch.device,
    dtype: torch.dtype,
    float32_parts: tuple[str, ...] = FLOAT32_PARTS,
) -> Module:
    """Build a module on the meta device and give it a checkpoint's tensors, one at a time.

    Args:
        build: makes the module.
        checkpoint: where the tensors are.
        names: the module's name of each tensor to the checkpoint's name.
        device, dtype: of the result.
        float32_parts: parts of names whose tensors stay float32.

    Returns:
        The module in evaluation mode, without gradients.

    Raises:
        CheckpointError: names or shapes differ; nothing was read.
    """
    with torch.device("meta"):
        module = build()
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    check_names(checkpoint, expected, names)
    for name, shape in expected.items():
        if checkpoint.shape(names[name]) != shape:
            came = checkpoint.shape(names[name])
            raise CheckpointError(f"{checkpoint.path}: {names[name]} is {list(came)}, expected {list(shape)}")

    def read(name: str) -> Tensor:
        return checkpoint.tensor(names[name]).to(device, _dtype(name, dtype, float32_parts))

    module.load_state_dict({name: read(name) for name in expected}, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def place(
    module: Module, device: torch.device, dtype: torch.dtype, float32_parts: tuple[str, ...] = FLOAT32_PARTS
) -> Module:
    """Move a module that is small enough to be built first; the same parts stay float32."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.data = parameter.data.to(device, _dtype(name, dtype, float32_parts))
    nn.Module.to(module, device)
    return module


def _dtype(name: str, dtype: torch.dtype, float32_parts: tuple[str, ...]) -> torch.dtype:
    return torch.float32 if any(part in name for part in float32_parts) else dtype


def check_names(checkpoint: Checkpoint, expected: Mapping[str, object], names: Mapping[str, str]) -> None:
    """Refuse a checkpoint that lacks tensors or has others."""
    missing = sorted(set(expected) - set(names))
    unexpected = sorted(names[name] for name in set(names) - set(expected))
    if missing or unexpected:
        found = (("missing", missing), ("unexpected", unexpected))
        parts = [f"{len(some)} tensors {what} (first {some[0]!r})" for what, some in found if some]
        raise CheckpointError(f"{checkpoint.path} does not fit the model: {' and '.join(parts)}")
