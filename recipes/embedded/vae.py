"""Stage ``vae``: the causal autoencoder, in float32: first on pictures, then on ever longer crops.

The temporal kernels begin as those of a picture model (only the newest frame counts), which is how Wan's own
autoencoder was made (Wan: Open and Advanced Large-Scale Video Generative Models, 2025, section 4.1).
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample
from muon import Optimizers
from pixels import Pool
from torch import Tensor
from training import Training, cooled
from vae_parallel import decode, encode

CONFIG = {"base_dim": 8, "dim_mult": [1, 2, 8, 8], "num_res_blocks": 1}
MUON, ADAM, KL = 0.02, 1e-3, 1e-4
POOL = 256

PHASES = (
    (0.45, ((32, 1, 32), (8, 1, 64))),
    (0.75, ((6, 5, 32), (6, 5, 32), (2, 5, 64))),
    (1.0, ((4, 9, 32), (2, 21, 32), (1, 9, 64))),
)
"""Until which share of the steps, and the crops of a step: how many, frames, rows and columns; one after another."""


def train_vae(folder: Path, steps: int, *, first_seed: int, device: str = "cpu") -> AutoencoderKLWan:
    """Train, or go on training, the autoencoder."""
    vae = new_vae().to(device)
    optimizers = Optimizers([vae], MUON, ADAM)
    training = Training(folder, steps, seed=1, parts={"vae": vae, "optimizers": optimizers})
    pool = Pool(POOL, first_seed) if training.step < steps else None
    for generator in training:
        shapes = next(shapes for until, shapes in PHASES if training.done < until)
        frames = pool.crops(*shapes[training.step % len(shapes)], generator).to(device)
        mean, log_variance = encode(vae, frames)
        log_variance = log_variance.clamp(-20, 4)
        noise = torch.randn(mean.shape, generator=generator).to(device)
        made = decode(vae, mean + (log_variance / 2).exp() * noise)
        picture, edges = (made - frames).abs().mean(), _edges(made, frames)
        kl = (mean**2 + log_variance.exp() - 1 - log_variance).mean() / 2
        optimizers.step(picture + edges + KL * kl, cooled(training.done, flat=0.3))
        training.note(picture=picture, edges=edges, kl=kl)
    return vae.eval()


def new_vae() -> AutoencoderKLWan:
    """Fresh weights that treat every frame of a group alike, and hardly any noise on the latents."""
    torch.manual_seed(1)
    vae = AutoencoderKLWan(**CONFIG)
    with torch.no_grad():
        vae.quant_conv.bias[vae.config.z_dim :] = -6
        for module in vae.modules():
            if isinstance(module, WanCausalConv3d) and module.kernel_size == (3, 3, 3):
                module.weight[:, :, :2] = 0
            if isinstance(module, WanResample) and module.mode.endswith("3d"):
                channels = module.dim
                identity = torch.eye(channels).repeat(module.time_conv.out_channels // channels, 1)
                taps = (0, 1, 2) if module.mode == "downsample3d" else (2,)
                module.time_conv.weight.zero_()
                module.time_conv.bias.zero_()
                for tap in taps:
                    module.time_conv.weight[:, :, tap, 0, 0] = identity / len(taps)
    return vae


def _edges(made: Tensor, frames: Tensor) -> Tensor:
    """How far the differences between neighbours in space and time are off."""
    off = made - frames
    gaps = [off.diff(dim=dim).abs().mean() for dim in (2, 3, 4) if off.shape[dim] > 1]
    return torch.stack(gaps).mean()
