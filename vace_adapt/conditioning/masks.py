"""Pixel masks to the 64 mask channels of the control latents. 1 = generate, 0 = keep.

A latent position covers 8x8 pixels in space; each of the 64 pixels is a channel. In time, one mask frame stands for the
whole latent frame. Two rules say which:

    group: the third of the latent's own four frames (the only one for the first latent). Every latent is described by a
        frame it encodes, in every chunk.
    nearest: ali-vilab/VACE vace/models/wan/wan_vace.py ``vace_encode_masks``, nearest-exact over the frames given at
        once. It does not follow the VAE's 1 + 4n grouping: over 9 frames it takes 1, 4, 7 where the latents encode 0,
        1-4, 5-8, so a mask that keeps frame 0 only is never seen.

On a chunk of 4n frames the two agree.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

from vace_adapt.controls import MaskTime
from vace_adapt.time_map import groups


def mask_frames(rule: MaskTime, latent_start: int, latents: int, frames: int) -> list[int]:
    """Which of a chunk's `frames` mask frames stands for each of its latents."""
    if rule == "nearest":
        return [(2 * i + 1) * frames // (2 * latents) for i in range(latents)]
    return [group[min(2, len(group) - 1)] for group in groups(latent_start, latents)]


def pack_mask(mask: Tensor, frames: list[int]) -> Tensor:
    """Mask [B, 1, T, H, W] in [0, 1], one frame for each latent, to [B, 64, F, H/8, W/8]. Values are not
    thresholded.
    """
    return rearrange(mask[:, :, frames], "b 1 f (h p) (w q) -> b (p q) f h w", p=8, q=8)
