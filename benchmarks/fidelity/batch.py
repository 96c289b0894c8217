"""Batch VACE on the embedded family, from diffusers' classes alone: what streaming is compared with.

Preprocessing, encoding and the place of the references are ali-vilab/VACE's (vace/annotators, vace/models/wan/
wan_vace.py): gray where a frame is to be generated, each reference encoded alone and put in front of the latents, the
mask sampled in time by nearest-exact. The flow is guided by the prompt as there (classifier-free guidance, hints in
both passes). Nothing here comes from the streaming code.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Given
from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from vace_adapt.contract import TextEncoder

Array = np.ndarray[Any, Any]

STEPS, SHIFT, GUIDANCE = 12, 5.0, 3.0


class BatchVace:
    """VACE over whole clips.

    Args:
        folder: a diffusers folder with ``vae/`` and ``transformer/``.
        text_encoder: prompts to embeddings.
    """

    def __init__(self, folder: Path, text_encoder: TextEncoder) -> None:
        self.vae = AutoencoderKLWan.from_pretrained(folder / "vae").float().eval().requires_grad_(False)
        model = WanVACETransformer3DModel.from_pretrained(folder / "transformer")
        self.model = model.float().eval().requires_grad_(False)
        self.text_encoder = text_encoder
        mean, deviation = (torch.tensor(each) for each in (self.vae.config.latents_mean, self.vae.config.latents_std))
        self.mean, self.deviation = mean.view(1, -1, 1, 1, 1), deviation.view(1, -1, 1, 1, 1)

    @torch.no_grad()
    def __call__(
        self, given: Given, frames: int, seed: int, mask_time: str = "nearest", anchor: str = "frame"
    ) -> Array:
        """A clip: uint8 [T, 64, 64, 3]. The last two are `pack`'s and `vace_inputs`'."""
        video, mask = vace_inputs(given, frames, anchor)
        kept, fresh = (self._encode(np.where(where[..., None], 127.5, video)) for where in (mask, ~mask))
        control = torch.cat([kept, fresh, pack(mask, mask_time)], dim=1)
        for reference in reversed(given.references):
            latent = self._encode(reference[None].astype(np.float32))
            control = torch.cat([torch.cat([latent, torch.zeros_like(control[:, 16:, :1])], dim=1), control], dim=2)
        noise = torch.Generator().manual_seed(seed)
        latents = torch.randn((1, 16, *control.shape[2:]), generator=noise)
        text = self.text_encoder([given.prompt, ""])
        scale = torch.ones(len(self.model.config.vace_layers))
        level = torch.linspace(1, 0, STEPS + 1)
        for now, later in pairwise((SHIFT * level / (1 + (SHIFT - 1) * level)).tolist()):
            noisy, steering = (torch.cat([each, each]) for each in (latents, control))
            timestep = torch.full((2,), 1000 * now)
            prompted, free = self.model(noisy, timestep, text, None, steering, scale).sample.split(1)
            latents = latents + (later - now) * (free + GUIDANCE * (prompted - free))
        return self._decode(latents[:, :, len(given.references) :])

    @torch.no_grad()
    def through_codec(self, frames: Array) -> Array:
        """Frames encoded and decoded."""
        return self._decode(self._encode(frames))

    def _encode(self, frames: Array) -> Tensor:
        pixels = torch.from_numpy(frames.astype(np.float32)).permute(3, 0, 1, 2)[None] / 127.5 - 1
        return (self.vae.encode(pixels).latent_dist.mode() - self.mean) / self.deviation

    def _decode(self, latents: Tensor) -> Array:
        pixels = self.vae.decode(latents * self.deviation + self.mean).sample[0]
        return ((pixels.permute(1, 2, 3, 0).clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


def vace_inputs(given: Given, frames: int, anchor: str = "frame") -> tuple[Array, Array]:
    """Frames float [T, 64, 64, 3], gray where nothing is given, and the mask bool [T, 64, 64], True = generate.

    A key picture stands alone, as in VACE, or with ``anchor="group"`` fills the frames of its latent, as in a stream.
    """
    video = np.full((frames, 64, 64, 3), 127.5) if given.control is None else given.control.astype(np.float64)
    mask = np.ones((frames, 64, 64), bool)
    if given.source is not None and given.mask is not None:
        mask = given.mask > 127
        video = np.where(mask[..., None], video, given.source)
    for pictures, at in map(_filling, given.keyframes) if anchor == "group" else given.keyframes:
        video[at : at + len(pictures)] = pictures
        mask[at : at + len(pictures)] = False
    return video, mask


def pack(mask: Array, mask_time: str = "nearest") -> Tensor:
    """The mask's 64 channels, [1, 64, F, 8, 8], sampled in time as in VACE, or ``"group"``: each latent's own."""
    pixels = torch.from_numpy(mask.astype(np.float32))
    channels = rearrange(pixels, "t (h p) (w q) -> (p q) t h w", p=8, q=8)
    latents = (len(mask) + 3) // 4
    if mask_time == "group":
        return channels[None, :, [0, *range(3, len(mask), 4)]]
    return F.interpolate(channels[None], size=(latents, *channels.shape[2:]), mode="nearest-exact")


def _filling(key: tuple[Array, int]) -> tuple[Array, int]:
    """One picture in every frame of the latent that it lies in."""
    (picture,), at = key
    return (np.stack([picture] * 4), at - (at - 1) % 4) if at else key
