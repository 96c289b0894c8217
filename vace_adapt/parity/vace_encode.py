"""Replay of the original VACE encoding: frames, masks and references to control latents, at once and chunk by chunk."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.vae import VaeCodec
from vace_adapt.contract import Comparison
from vace_adapt.errors import GoldenError
from vace_adapt.parity.golden import Golden, comparison, max_error
from vace_adapt.time_map import TimeMap, pixels_of

CONFIG_KEYS = ("base_dim", "z_dim", "dim_mult", "num_res_blocks", "temperal_downsample", "latents_mean", "latents_std")


@torch.no_grad()
def replay(golden: Golden) -> Comparison:
    """Errors of the whole control latents (mask rule `nearest`, VACE's own) and of each chunk's frame latents."""
    codec = VaeCodec(_vae(golden))
    frames, mask = golden.tensor("input.frames")[None], golden.tensor("input.mask")[None]
    latents = 1 + (frames.shape[2] - 1) // 4
    encoder = _encoder(codec, frames, TimeMap(latents, latents))
    context = encoder.control(0, *_whole_groups(frames, mask, latents))
    references = int(golden.config.get("refs", 0))
    if references:
        images = torch.cat([golden.tensor(f"input.ref.{i}") for i in range(references)], dim=1)[None]
        context = torch.cat([encoder.references(images)[0], context], dim=2)
    rows = [("control latents", max_error(context[0], golden.tensor("output.context")))]
    return comparison(rows + _streamed(golden, codec, frames, mask))


def _streamed(golden: Golden, codec: VaeCodec, frames: Tensor, mask: Tensor) -> list[tuple[str, float]]:
    """The same frames fed in the file's pixel chunks."""
    chunks: list[int] = golden.config.get("chunks", [])
    if not chunks:
        return []
    first, *later = chunks
    if first % 4 != 1 or any(size % 4 or size != later[0] for size in later):
        raise GoldenError(f"{golden.path}: chunks {chunks} are not 4n+1 frames and then equal multiples of 4")
    encoder = _encoder(codec, frames, TimeMap(1 + first // 4, later[0] // 4 if later else 1))
    rows = []
    start = 0
    for i, size in enumerate(chunks):
        part = slice(start, start + size)
        streamed = encoder.control(i, frames[:, :, part], mask[:, :, part])
        rows.append((f"chunk {i}", max_error(streamed[0, :32], golden.tensor(f"output.{i}"))))
        start += size
    return rows


def _encoder(codec: VaeCodec, frames: Tensor, time: TimeMap) -> ControlEncoder:
    return ControlEncoder(codec, time, (1, frames.shape[3], frames.shape[4]), "nearest")


def _whole_groups(frames: Tensor, mask: Tensor, latents: int) -> tuple[Tensor, Tensor]:
    """Upstream's VAE drops frames past the last whole group of four."""
    kept = pixels_of(latents)
    return frames[:, :, :kept], mask[:, :, :kept]


def _vae(golden: Golden) -> AutoencoderKLWan:
    vae = AutoencoderKLWan(**{key: golden.value(key) for key in CONFIG_KEYS}).eval()
    try:
        vae.load_state_dict(golden.weights())
    except RuntimeError as error:
        raise GoldenError(f"{golden.path}: its weights do not fit its config: {error}") from error
    return vae
