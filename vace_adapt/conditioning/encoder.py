"""Control frames, masks and references to control latents, chunk by chunk.

Control latents have 96 channels (ali-vilab/VACE vace/models/wan/wan_vace.py ``vace_encode_frames``,
``vace_encode_masks``, ``vace_latent``): 16 of the inactive frames (where the mask keeps), 16 of the reactive frames
(where it generates), 64 of the mask. Inactive and reactive are two video streams, each with its own encoder state;
every reference is encoded alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vace_adapt.conditioning.masks import mask_frames, pack_mask
from vace_adapt.conditioning.vae import EncoderStream, VaeCodec
from vace_adapt.controls import MaskTime
from vace_adapt.time_map import TimeMap


class ControlEncoder:
    """The control latents of one stream.

    Args:
        codec: the VAE.
        time: which frames belong to which chunk.
        shape: [B, H, W] of the stream.
        mask_time: which mask frame stands for a latent; see `vace_adapt.conditioning.masks`.
    """

    def __init__(self, codec: VaeCodec, time: TimeMap, shape: tuple[int, int, int], mask_time: MaskTime) -> None:
        self._codec = codec
        self._time = time
        self._mask_time = mask_time
        self._zeros = codec.zero_video(shape)
        self._inactive = EncoderStream(codec, self._zeros, restarts=time.restarts)
        self._reactive = EncoderStream(codec, self._zeros, restarts=time.restarts)

    def control(self, chunk: int, frames: Tensor, mask: Tensor | None) -> Tensor:
        """Control latents of a chunk.

        Args:
            chunk: its number; chunks come in order, each once, here or in `skip`.
            frames: [B, 3, T, H, W] in [-1, 1], T as the time map says.
            mask: [B, 1, T, H, W] in [0, 1], 1 = generate; None means all 1. Frames are split where it is over 0.5.

        Returns:
            Normalised, float32 [B, 96, F, h, w].
        """
        latents = self._time.latents(chunk)
        start = self._time.place(self._time.latent_start(chunk))
        if mask is None or bool((mask > 0.5).all()):
            inactive = self._inactive.encode_zeros(latents)
            reactive = self._reactive.encode(frames)
        else:
            generate = (mask > 0.5).to(frames.dtype)
            inactive = self._inactive.encode(frames * (1 - generate))
            reactive = self._reactive.encode(frames * generate)
        if mask is None:
            packed = self._all_generate(inactive)
        else:
            chosen = mask_frames(self._mask_time, start, latents, frames.shape[2])
            packed = pack_mask(mask, chosen).to(inactive.device, torch.float32)
        return torch.cat([self._codec.normalise(inactive), self._codec.normalise(reactive), packed], dim=1)

    def skip(self, chunk: int) -> None:
        """Nothing was given for this chunk: both streams go on as if nothing ever had been."""
        self._inactive.skip(self._time.latents(chunk))
        self._reactive.skip(self._time.latents(chunk))

    def nothing(self, start: int, latents: int) -> Tensor:
        """What "nothing given" encodes to for absolute latent frames ``start .. start+latents-1``.

        Returns:
            Zero frames under an all-one mask, normalised, [B, 96, latents, h, w].
        """
        places = [self._time.place(latent) for latent in range(start, start + latents)]
        zeros = self._codec.posterior_mean(torch.cat([self._zeros.encoded(place, 1) for place in places], dim=2))
        normalised = self._codec.normalise(zeros)
        return torch.cat([normalised, normalised, self._all_generate(zeros)], dim=1)

    def references(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """References [B, 3, R, H, W] in [-1, 1], each encoded alone as the first frame of a video.

        Returns:
            Their control latents [B, 96, R, h, w] (normalised latent, zero reactive, zero mask) and their VAE latents,
            not normalised, [B, 16, R, h, w].
        """
        images = images.to(self._codec.device, self._codec.dtype)
        encoded = [self._codec.encode_group(image, self._codec.new_encoder_state()) for image in images.split(1, dim=2)]
        latents = torch.cat([self._codec.posterior_mean(one) for one in encoded], dim=2)
        normalised = self._codec.normalise(latents)
        empty = torch.zeros_like(normalised)
        no_mask = self._all_generate(latents) * 0
        return torch.cat([normalised, empty, no_mask], dim=1), latents

    def _all_generate(self, like: Tensor) -> Tensor:
        """An all-one mask for latents shaped as `like`."""
        batch, _, frames, height, width = like.shape
        area = self._codec.stride[1] * self._codec.stride[2]
        return torch.ones((batch, area, frames, height, width), device=like.device)
