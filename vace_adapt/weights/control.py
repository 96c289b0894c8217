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
    width, channels = checkpoint.shape(names["vace_patch_embedding.weight"])[:2]
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
    declared = checkpoint.config.get("vace_layers")
    if isinstance(declared, list):
        if len(declared) != blocks or max(declared) >= depth:
            raise CheckpointError(
                f"{checkpoint.path} has {blocks} context blocks for layers {declared}, "
                f"the base model has {depth} blocks"
            )
        return tuple(declared)
    if depth % blocks:
        raise CheckpointError(
            f"{checkpoint.path} has {blocks} context blocks, which do not spread evenly over {depth} base blocks"
        )
    return tuple(range(0, depth, depth // blocks))
