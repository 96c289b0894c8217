"""A LoRA as LongLive and its relatives ship it: a peft state dict with original Wan names."""

from __future__ import annotations

from typing import Any

from torch import nn

from vace_adapt.errors import CheckpointError
from vace_adapt.weights.checkpoint import Checkpoint, open_checkpoint
from vace_adapt.weights.wan_keys import is_original, to_diffusers

ADAPTER = "shipped"
"""Name of the adapter on the base model."""


def load_lora(model: Any, source: str, *, rank: int, alpha: float, merge: bool, download: bool = False) -> None:
    """Put a LoRA on a diffusers-layout base model, strictly.

    Args:
        model: a diffusers model; changed in place.
        source: the file; keys ``base_model.model.blocks.N.self_attn.q.lora_A.weight`` or diffusers' names.
        rank: expected rank; the file's must be the same.
        alpha: the update is scaled by ``alpha / rank``.
        merge: add it to the weights for good, instead of keeping it beside them where it can be switched off.

    Raises:
        CheckpointError: unreadable, of another rank, or for modules the model does not have. The model is unchanged.
    """
    checkpoint = open_checkpoint(source, download=download)
    names = {_model_name(name): name for name in checkpoint}
    _check(checkpoint, names, model, rank)
    weight = next(model.parameters())
    state = {name: checkpoint.tensor(old).to(weight.device, weight.dtype) for name, old in names.items()}
    targets = sorted({_target(name) for name in names})
    metadata = {"r": rank, "lora_alpha": alpha, "target_modules": targets}
    model.load_lora_adapter(state, prefix=None, adapter_name=ADAPTER, metadata=metadata)
    if merge:
        model.fuse_lora(adapter_names=[ADAPTER])
        model.unload_lora()
    model.requires_grad_(False)


def _model_name(name: str) -> str:
    """A file's key as the model's: without peft's prefix and adapter name, in diffusers' layout."""
    name = name.removeprefix("base_model.model.").replace(".default.weight", ".weight")
    return to_diffusers(name) if is_original(name) or (".ffn." in name and ".net." not in name) else name


def _target(name: str) -> str:
    return name.rsplit(".lora_", 1)[0]


def _check(checkpoint: Checkpoint, names: dict[str, str], model: nn.Module, rank: int) -> None:
    for name, old in names.items():
        if not name.endswith((".lora_A.weight", ".lora_B.weight")):
            raise CheckpointError(f"{checkpoint.path} is not a LoRA: it has {old!r}")
        came = checkpoint.shape(old)[0 if ".lora_A." in name else 1]
        if came != rank:
            raise CheckpointError(f"{checkpoint.path} is a LoRA of rank {came}, the settings say {rank}")
    modules = dict(model.named_modules())
    for name, old in names.items():
        target = modules.get(_target(name))
        if not isinstance(target, nn.Linear):
            raise CheckpointError(f"{checkpoint.path} adapts {old!r}, which the model does not have")
        side, width = (1, target.in_features) if ".lora_A." in name else (0, target.out_features)
        if checkpoint.shape(old)[side] != width:
            raise CheckpointError(
                f"{checkpoint.path}: {old!r} has width {checkpoint.shape(old)[side]}, the model's layer has {width}"
            )
    alone = [
        name
        for name in names
        if name.replace("lora_A", "lora_B") not in names or name.replace("lora_B", "lora_A") not in names
    ]
    if alone:
        raise CheckpointError(f"{checkpoint.path} is damaged: {alone[0]!r} has no partner")
