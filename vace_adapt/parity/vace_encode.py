"""Replay of the original VACE encoding: frames, masks and references to control latents, at once and chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.masks import mask_frames, pack_mask
from vace_adapt.conditioning.vae import VaeCodec
from vace_adapt.contract import Comparison
from vace_adapt.errors import GoldenError
from vace_adapt.parity.golden import Golden, comparison, max_error
from vace_adapt.time_map import TimeMap, pixels_of
from vace_adapt.weights.foreign import refusing

CONFIG_KEYS = ("base_dim", "z_dim", "dim_mult", "num_res_blocks", "temperal_downsample", "latents_mean", "latents_std")


@dataclass(frozen=True)
class ListedChunks(TimeMap):
    """A time axis whose chunks have the listed numbers of latent frames, equal or not."""

    listed: tuple[int, ...] = ()

    def latents(self, chunk: int) -> int:
        return self.listed[chunk]

    def latent_start(self, chunk: int) -> int:
        return sum(self.listed[:chunk])


@torch.no_grad()
def replay(golden: Golden) -> Comparison:
    """Errors of the whole control latents (mask rule `nearest`, VACE's own) and of each chunk's frame latents."""
    codec = VaeCodec(_vae(golden))
    frames, mask = golden.tensor("input.frames")[None], golden.tensor("input.mask")[None]
    encoder = _encoder(codec, frames, [1 + (frames.shape[2] - 1) // 4])
    context = _whole(encoder, frames, mask)
    references = sum(name.startswith("input.ref.") for name in golden.tensors)
    if references:
        images = torch.cat([golden.tensor(f"input.ref.{i}") for i in range(references)], dim=1)[None]
        context = torch.cat([encoder.references(images)[0], context], dim=2)
    rows = [("control latents", max_error(context[0], golden.tensor("output.context")))]
    return comparison(rows + _streamed(golden, codec, frames, mask))


def _whole(encoder: ControlEncoder, frames: Tensor, mask: Tensor) -> Tensor:
    """Control latents of all frames at once, [1, 96, F, h, w].

    Upstream's VAE drops frames past the last whole group of four; its mask rule looks at all of them.
    """
    count = frames.shape[2]
    latents = 1 + (count - 1) // 4
    kept = pixels_of(latents)
    control = encoder.control(0, frames[:, :, :kept], mask[:, :, :kept])
    if kept == count:
        return control
    packed = pack_mask(mask, mask_frames("nearest", 0, latents, count))
    return torch.cat([control[:, :32], packed], dim=1)


def _streamed(golden: Golden, codec: VaeCodec, frames: Tensor, mask: Tensor) -> list[tuple[str, float]]:
    """The same frames fed in the file's pixel chunks."""
    if "output.0" not in golden.tensors and "chunks" not in golden.config:
        return []
    chunks = _chunks(golden, frames.shape[2])
    encoder = _encoder(codec, frames, [(size + 3) // 4 for size in chunks])
    rows = []
    start = 0
    for i, size in enumerate(chunks):
        part = slice(start, start + size)
        streamed = encoder.control(i, frames[:, :, part], mask[:, :, part])
        rows.append((f"chunk {i}", max_error(streamed[0, :32], golden.tensor(f"output.{i}"))))
        start += size
    return rows


def _chunks(golden: Golden, frames: int) -> list[int]:
    """Frames of each chunk: 4n+1 first, then any multiples of 4, all of them there."""
    chunks = golden.value("chunks")
    if not isinstance(chunks, list) or not chunks or not all(type(size) is int and size > 0 for size in chunks):
        raise GoldenError(f"{golden.path}: chunks must be a list of numbers of frames, not {chunks!r}")
    if chunks[0] % 4 != 1 or any(size % 4 for size in chunks[1:]):
        raise GoldenError(f"{golden.path}: chunks {chunks} are not 4n+1 frames and then multiples of 4")
    if sum(chunks) > frames:
        raise GoldenError(f"{golden.path}: chunks {chunks} are {sum(chunks)} frames, input.frames has {frames}")
    return chunks


def _encoder(codec: VaeCodec, frames: Tensor, latents: list[int]) -> ControlEncoder:
    """An encoder of chunks of so many latent frames."""
    time = ListedChunks(latents[0], 1, listed=tuple(latents))
    return ControlEncoder(codec, time, (1, frames.shape[3], frames.shape[4]), "nearest")


def _vae(golden: Golden) -> AutoencoderKLWan:
    config = {key: golden.value(key) for key in CONFIG_KEYS}
    with refusing(GoldenError, f"{golden.path}: its weights do not fit its config"):
        vae = AutoencoderKLWan(**config).eval()
        vae.load_state_dict(golden.weights())
    return vae
