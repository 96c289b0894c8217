"""A clip through `AutoencoderKLWan` at once, for training: the twin of its chunk-by-chunk use.

The class itself runs its temporal resampling only where it has a cache, so it cannot take a whole clip. Here the same
submodules see all frames, with the first frame as it is and the rest folded or unfolded in time. The test beside this
file holds both to the same latents and frames.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample
from einops import rearrange
from torch import Tensor, nn


def encode(vae: AutoencoderKLWan, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance of the latents, each [B, C, F, h, w], not normalised.

    Args:
        vae: the autoencoder.
        frames: float [B, 3, 4F-3, H, W] in [-1, 1].
    """
    encoder = vae.encoder
    x = encoder.conv_in(frames)
    for layer in encoder.down_blocks:
        x = _shrunk(layer, x) if isinstance(layer, WanResample) else layer(x)
    x = encoder.conv_out(encoder.nonlinearity(encoder.norm_out(encoder.mid_block(x))))
    mean, log_variance = vae.quant_conv(x).chunk(2, dim=1)
    return mean, log_variance


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Frames [B, 3, 4F-3, H, W], not clamped, of latents [B, C, F, h, w]."""
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latents)))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = resnet(x)
        for upsampler in block.upsamplers or ():
            x = _grown(upsampler, x)
    return decoder.conv_out(decoder.nonlinearity(decoder.norm_out(x)))


def _shrunk(layer: WanResample, x: Tensor) -> Tensor:
    """Half the rows and columns; of the frames the first, then one for every two."""
    x = _each_frame(layer.resample, x)
    if layer.mode == "downsample2d" or x.shape[2] == 1:
        return x
    return torch.cat([x[:, :, :1], layer.time_conv(x)], dim=2)


def _grown(layer: WanResample, x: Tensor) -> Tensor:
    """Twice the rows and columns; of the frames the first, then two for each."""
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        later = rearrange(layer.time_conv(x[:, :, 1:]), "b (two c) t h w -> b c (t two) h w", two=2)
        x = torch.cat([x[:, :, :1], later], dim=2)
    return _each_frame(layer.resample, x)


def _each_frame(module: nn.Module, x: Tensor) -> Tensor:
    frames = module(rearrange(x, "b c t h w -> (b t) c h w"))
    return rearrange(frames, "(b t) c h w -> b c t h w", b=x.shape[0])
