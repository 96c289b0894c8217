"""HunyuanVideo's VAE as core needs it.

Its group norms see all frames of a call, so a stream of it is no exact continuation. A section is encoded behind the
last frame before it, and decoded behind the section before it, as FramePack itself decodes (lllyasviel/FramePack
demo_gradio_f1.py). Upstream then fades the 33 frames that two sections share into one another; frames that a stream has
handed out are not changed any more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vace_adapt.errors import CheckpointError, InputError

OVERLAP = 9
"""Latent frames of the section before that a section is decoded behind."""


class HunyuanCodec:
    """In place of `vace_adapt.conditioning.vae.VaeCodec`, for `PipelineParts.codec`.

    Args:
        vae: an `AutoencoderKLHunyuanVideo`.
    """

    channels = 16
    stride = (4, 8, 8)

    def __init__(self, vae: Any) -> None:
        config = vae.config
        sizes = (config.latent_channels, config.temporal_compression_ratio, config.spatial_compression_ratio)
        if sizes != (16, 4, 8):
            raise CheckpointError(f"FramePack needs HunyuanVideo's VAE (16 channels, 4x8x8), not one of {sizes}")
        self.vae = vae
        self._scale = config.scaling_factor

    @property
    def dtype(self) -> torch.dtype:
        return self.vae.dtype

    @property
    def device(self) -> torch.device:
        return self.vae.device

    def normalise(self, latents: Tensor) -> Tensor:
        """VAE latents as the model takes them, float32."""
        return latents.float() * self._scale

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise`, float32."""
        return latents.float() / self._scale

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, 1 + 4n, H, W] in [-1, 1] to the posterior's mean [B, 16, 1 + n, h, w]."""
        return self.vae.encode(pixels.to(self.device, self.dtype)).latent_dist.mode()

    def encoder(self, shape: tuple[int, int, int], *, restarts: bool = False) -> HunyuanEncoder:
        """A video stream going in."""
        return HunyuanEncoder(self)

    def decoder(self) -> HunyuanDecoder:
        """A stream of latents coming out."""
        return HunyuanDecoder(self)


class HunyuanEncoder:
    """One video stream going into the VAE, section by section."""

    def __init__(self, codec: HunyuanCodec) -> None:
        self._codec = codec
        self._last: Tensor | None = None
        self._begun = False

    def encode(self, pixels: Tensor) -> Tensor:
        """Continue with frames [B, 3, T, H, W]; T is ``1 + 4n`` at the start, ``4n`` later. Not normalised."""
        lead = 0 if self._begun else 1
        if pixels.shape[2] < 1 or (pixels.shape[2] - lead) % 4:
            raise InputError(f"a causal VAE takes {'1 + 4n' if lead else '4n'} frames here, not {pixels.shape[2]}")
        before = torch.zeros_like(pixels[:, :, :1]) if self._last is None else self._last
        given = pixels if lead else torch.cat([before, pixels], dim=2)
        self._last, self._begun = pixels[:, :, -1:].clone(), True
        latents = self._codec.encode(given)
        return latents if lead else latents[:, :, 1:]

    def skip(self, latents: int) -> None:
        """Forget what was given."""
        self._last, self._begun = None, True


class HunyuanDecoder:
    """One stream of latents coming out of the VAE as frames."""

    def __init__(self, codec: HunyuanCodec) -> None:
        self._codec = codec
        self._before: Tensor | None = None

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, 16, F, h, w], not normalised, to pixels [B, 3, T, H, W] in [-1, 1]."""
        before, codec = self._before, self._codec
        given = latents if before is None else torch.cat([before, latents], dim=2)
        pixels = codec.vae.decode(given.to(codec.device, codec.dtype)).sample.clamp(-1.0, 1.0)
        self._before = latents[:, :, -OVERLAP:].clone()
        return pixels if before is None else pixels[:, :, -4 * latents.shape[2] :]
