"""A Wan2.1-shaped base model from its checkpoint, in the original or the diffusers layout."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch

from vace_adapt.contract import Backbone
from vace_adapt.errors import CheckpointError
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.weights.checkpoint import Checkpoint, open_checkpoint
from vace_adapt.weights.modules import fill
from vace_adapt.weights.wan_keys import is_original, to_diffusers


def load_causal_wan(
    source: str,
    backbone: Backbone,
    device: torch.device,
    dtype: torch.dtype,
    *,
    top_key: str | None = None,
    download: bool = False,
) -> CausalWan:
    """Load a base model strictly.

    Raises:
        CheckpointError: unreadable, or of another width or depth; the text carries both numbers.
    """
    checkpoint = open_checkpoint(source, download=download, top_key=top_key)
    names = diffusers_names(checkpoint, checkpoint)
    check_sizes(checkpoint, names, backbone)
    return fill(lambda: CausalWan.of(backbone), checkpoint, names, device, dtype)


def diffusers_names(checkpoint: Checkpoint, chosen: Iterable[str]) -> dict[str, str]:
    """The chosen tensors by their diffusers name; refuses two tensors for one name."""
    chosen = list(chosen)
    original = any(is_original(name) for name in chosen)
    names = {to_diffusers(name) if original else name: name for name in chosen}
    if len(names) < len(chosen):
        raise CheckpointError(f"{checkpoint.path} mixes the original and the diffusers layout")
    return names


def check_sizes(checkpoint: Checkpoint, names: dict[str, str], backbone: Backbone) -> None:
    """Refuse another width or depth in words, before tensor shapes would."""
    if "patch_embedding.weight" not in names:
        raise CheckpointError(f"{checkpoint.path} holds no Wan2.1 model: no patch_embedding")
    width, channels = checkpoint.shape(names["patch_embedding.weight"], 5)[:2]
    if width != backbone.dim:
        raise CheckpointError(f"{checkpoint.path} is a model of width {width}, this pipeline has width {backbone.dim}")
    if channels != backbone.latent_channels:
        raise CheckpointError(
            f"{checkpoint.path} takes latents of {channels} channels, "
            f"this pipeline's VAE makes {backbone.latent_channels}"
        )
    depth = count_blocks(names, "blocks")
    if depth != backbone.layers:
        raise CheckpointError(f"{checkpoint.path} has {depth} blocks, this pipeline has {backbone.layers}")


def count_blocks(names: Iterable[str], stem: str) -> int:
    """How many blocks ``stem.0``, ``stem.1``, ... there are."""
    return len({match[1] for name in names if (match := re.match(rf"{stem}\.(\d+)\.", name))})
