"""The Wan2.1 VAE from its original file or from a diffusers folder."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

from vace_adapt.errors import CheckpointError
from vace_adapt.weights.checkpoint import Checkpoint, open_checkpoint
from vace_adapt.weights.foreign import refusing
from vace_adapt.weights.modules import fill

CONFIG_KEYS = (
    "base_dim", "z_dim", "dim_mult", "num_res_blocks", "attn_scales", "temperal_downsample",
    "latents_mean", "latents_std", "scale_factor_temporal", "scale_factor_spatial",
)  # fmt: skip


def load_vae(source: str, device: torch.device, dtype: torch.dtype, *, download: bool = False) -> AutoencoderKLWan:
    """Load the VAE strictly.

    Raises:
        CheckpointError: unreadable, not a Wan VAE, or with a config of other sizes than its tensors.
    """
    checkpoint = open_checkpoint(source, download=download, subfolder="vae")
    if "encoder.conv1.weight" in checkpoint:
        names, config = _original(checkpoint)
    elif "encoder.conv_in.weight" in checkpoint:
        names = {name: name for name in checkpoint}
        config = {key: checkpoint.config[key] for key in CONFIG_KEYS if key in checkpoint.config}
    else:
        raise CheckpointError(f"{checkpoint.path} is not a Wan VAE: it has neither encoder.conv1 nor encoder.conv_in")

    def build() -> AutoencoderKLWan:
        with refusing(CheckpointError, f"{checkpoint.path}: no Wan VAE can be built from its config"):
            return AutoencoderKLWan(**config)

    return fill(build, checkpoint, names, device, dtype, float32_parts=())


def _original(checkpoint: Checkpoint) -> tuple[dict[str, str], dict[str, object]]:
    """Diffusers names of an original file's tensors, and the sizes they show."""
    names = {}
    for name in checkpoint:
        (converted,) = convert_wan_vae_to_diffusers({name: None})
        names[converted] = name
    base_dim = checkpoint.shape("encoder.conv1.weight", 5)[0]
    z_dim = checkpoint.shape("conv2.weight", 5)[0]
    return names, {"base_dim": base_dim, "z_dim": z_dim}
