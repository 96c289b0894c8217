"""VACE weights as a `ContextPath`: the full original checkpoint, the VACE module alone, or diffusers' layout."""

from __future__ import annotations

import torch

from vace_adapt.context.blocks import ContextPath
from vace_adapt.contract import Backbone
from vace_adapt.errors import CheckpointError
from vace_adapt.weights.base import count_blocks, diffusers_names
from vace_adapt.weights.checkpoint import Checkpoint, open_checkpoint
from vace_adapt.weights.modules import fill


def load_context_path(
    source: str, backbone: Backbone, device: torch.device, dtype: torch.dtype, *, download: bool = False
) -> ContextPath:
    """Read only the ``vace_*`` tensors, strictly.

    Raises:
        CheckpointError: no VACE weights, or weights of another width, depth or VAE; the text carries both numbers.
    """
    checkpoint = open_checkpoint(source, download=download, subfolder="transformer")
    names = diffusers_names(checkpoint, [name for name in checkpoint if name.startswith("vace_")])
    if "vace_patch_embedding.weight" not in names:
        raise CheckpointError(f"{checkpoint.path} holds no VACE weights: no vace_patch_embedding")
    width, channels = checkpoint.shape(names["vace_patch_embedding.weight"], 5)[:2]
    if width != backbone.dim:
        raise CheckpointError(
            f"{checkpoint.path} has context blocks of width {width}, the base model has width {backbone.dim}: "
            "VACE weights fit a base of the same width only (1536 for 1.3B, 5120 for 14B)"
        )
    if channels != backbone.control_channels:
        raise CheckpointError(
            f"{checkpoint.path} takes {channels} control channels; this base's VAE "
            f"({backbone.latent_channels} channels, {backbone.stride[1]}x{backbone.stride[2]}) "
            f"makes {backbone.control_channels}"
        )
    layers = _layers(checkpoint, count_blocks(names, "vace_blocks"), backbone.layers)
    return fill(lambda: ContextPath(backbone, layers), checkpoint, names, device, dtype)


def _layers(checkpoint: Checkpoint, blocks: int, depth: int) -> tuple[int, ...]:
    """The base blocks that receive hints: as the config beside the weights says, else evenly spread from block 0."""
    if not blocks:
        raise CheckpointError(f"{checkpoint.path} holds no VACE weights: no vace_blocks")
    declared = checkpoint.config.get("vace_layers")
    if declared is not None:
        return _declared(checkpoint, declared, blocks, depth)
    if depth % blocks:
        raise CheckpointError(
            f"{checkpoint.path} has {blocks} context blocks, which do not spread evenly over {depth} base blocks"
        )
    return spread(blocks, depth)


def spread(blocks: int, depth: int) -> tuple[int, ...]:
    """Where the hints of context blocks go whose number divides that of the base blocks: evenly, from block 0 on."""
    return tuple(range(0, depth, depth // blocks))


def _declared(checkpoint: Checkpoint, layers: object, blocks: int, depth: int) -> tuple[int, ...]:
    """The config's own layers: as many as context blocks, ascending from 0, all in the base model."""
    if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
        raise CheckpointError(f"{checkpoint.path}: vace_layers of its config must be a list of integers, not {layers}")
    if len(layers) != blocks or max(layers) >= depth:
        raise CheckpointError(
            f"{checkpoint.path} has {blocks} context blocks for layers {layers}, the base model has {depth} blocks"
        )
    if layers[0] != 0 or layers != sorted(set(layers)):
        raise CheckpointError(f"{checkpoint.path}: vace_layers of its config must ascend from 0, not {layers}")
    return tuple(layers)
