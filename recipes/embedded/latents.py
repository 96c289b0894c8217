"""Stage ``latents``: every clip with its conditions and references, encoded once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conditions import FAMILIES, GRAY, Condition, Families, draw_condition
from diffusers import AutoencoderKLWan
from einops import reduce
from precision import autocast
from shards import load_shards
from torch import Tensor
from vae_parallel import encode

from vace_adapt.conditioning.masks import mask_frames, pack_mask
from vace_adapt.embedded.world.captions import caption
from vace_adapt.embedded.world.render import reference, render
from vace_adapt.embedded.world.scene import FRAMES, SIZE, draw_scene

Array = np.ndarray[Any, Any]

CONDITIONS, REFERENCES = 4, 3
"""Of each clip."""


@dataclass(frozen=True)
class Latents:
    """Encoded clips, in memory.

    Attributes:
        video: float16 [N, C, F, h, w], normalised like all latents here.
        inactive, reactive: float16 [N, 4, C, F, h, w].
        mask: bool [N, 4, 64, F, h, w].
        minor: bool [N, 4, F, h, w], the smaller part of what is kept and what is made, where there is both.
        references: float16 [N, 3, C, 1, h, w]; a clip with fewer things repeats them.
        nothing: float16 [C, F, h, w], a gray video.
        captions: full, and without appearance, for each clip.
        names: of the conditions of each clip.
        things: in each clip.
    """

    video: Tensor
    inactive: Tensor
    reactive: Tensor
    mask: Tensor
    minor: Tensor
    references: Tensor
    nothing: Tensor
    captions: list[tuple[str, str]]
    names: list[list[str]]
    things: list[int]

    def __len__(self) -> int:
        return len(self.video)


class Codec:
    """The trained autoencoder with the statistics of its latents. A gray video of one length is encoded once.

    Args:
        vae: the autoencoder.
        statistics: mean and deviation of each channel, or None while they are measured.
        device: where it runs.
        fast: encode videos as a compiled graph, in bfloat16 where the device has it; latents are then off by about
            half a percent.
    """

    def __init__(
        self,
        vae: AutoencoderKLWan,
        statistics: tuple[Tensor, Tensor] | None,
        device: str = "cpu",
        *,
        fast: bool = False,
    ) -> None:
        self.vae, self.device, self.fast = vae.to(device), device, fast
        self._video = torch.compile(encode) if fast else encode
        mean, deviation = statistics or (torch.zeros(vae.config.z_dim), torch.ones(vae.config.z_dim))
        self.mean, self.deviation = (each.view(-1, 1, 1, 1).to(device) for each in (mean, deviation))
        self._gray: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, frames: Array) -> Tensor:
        """Frames 0..255 [T, H, W, 3] to float16 [C, F, h, w]."""
        if not (frames == GRAY).all():
            return self._encoded(frames)
        if frames.shape not in self._gray:
            self._gray[frames.shape] = self._encoded(frames)
        return self._gray[frames.shape]

    @torch.no_grad()
    def _encoded(self, frames: Array) -> Tensor:
        pixels = torch.from_numpy(frames).to(self.device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        with autocast(self.device, enabled=self.fast):
            mean, _ = (self._video if len(frames) > 1 else encode)(self.vae, pixels)
        return ((mean[0].float() - self.mean) / self.deviation).half().cpu().contiguous()


def measure_statistics(vae: AutoencoderKLWan, clips: int, first_seed: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent channel over videos."""
    codec = Codec(vae, None)
    latents = torch.stack([codec(render(draw_scene(seed)).frames) for seed in range(first_seed, first_seed + clips)])
    return latents.float().mean(dim=(0, 2, 3, 4)), latents.float().std(dim=(0, 2, 3, 4))


def encode_clips(
    codec: Codec, seeds: range, families: Families = FAMILIES
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Clips with their conditions and references, as a shard has them."""
    encoded = [_encode(codec, seed, families) for seed in seeds]
    tensors = {name: torch.stack([tensors[name] for tensors, _ in encoded]) for name in encoded[0][0]}
    nothing = codec(np.full((FRAMES, SIZE, SIZE, 3), GRAY, np.float32))
    return {**tensors, "nothing": nothing[None]}, [words for _, words in encoded]


def load_latents(folder: Path) -> Latents:
    """Every shard that is there."""
    tensors, words = load_shards(folder)
    nothing = tensors.pop("nothing")[0]
    return Latents(
        **tensors,
        nothing=nothing,
        captions=[(entry["caption"], entry["plain"]) for entry in words],
        names=[entry["names"] for entry in words],
        things=[entry["things"] for entry in words],
    )


def control_of(codec: Codec, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
    """Inactive and reactive latents and mask channels of a condition, as ali-vilab/VACE encodes them."""
    generate = condition.mask[..., None]
    kept = np.where(generate, np.float32(GRAY), condition.frames)
    fresh = np.where(generate, condition.frames, np.float32(GRAY))
    mask = torch.from_numpy(condition.mask)[None, None]
    latents = 1 + (len(condition.mask) - 1) // 4
    packed = pack_mask(mask, mask_frames("nearest", 0, latents, len(condition.mask)))[0]
    return codec(kept), codec(fresh), packed


def latent_area(seen: Tensor) -> Tensor:
    """Pixels bool [T, H, W] as cells of latents that hold any of them: [1 + (T - 1) / 4, H / 8, W / 8]."""
    cells = reduce(seen, "t (h a) (w b) -> t h w", "any", a=8, b=8)
    return torch.cat([cells[:1], reduce(cells[1:], "(f a) h w -> f h w", "any", a=4)])


def minor_part(mask: Array) -> Tensor:
    """The smaller part of what a mask bool [T, H, W] keeps and what it makes, in cells as `latent_area` has them.

    A cell that is kept in any pixel counts as kept. Where all is made, or all is kept, there is no such part.
    """
    kept = latent_area(torch.from_numpy(~mask))
    return kept if 2 * kept.sum() < kept.numel() else ~kept


def _encode(codec: Codec, seed: int, families: Families) -> tuple[dict[str, Tensor], dict[str, Any]]:
    clip = render(draw_scene(seed))
    random = np.random.default_rng([seed, 2])
    conditions = [draw_condition(clip, random, families) for _ in range(CONDITIONS)]
    inactive, reactive, mask = (
        torch.stack(part) for part in zip(*(control_of(codec, c) for c in conditions), strict=True)
    )
    things = clip.scene.things
    references = [codec(reference(things[i % len(things)])[None].astype(np.float32)) for i in range(REFERENCES)]
    tensors = {
        "video": codec(clip.frames.astype(np.float32)),
        "inactive": inactive,
        "reactive": reactive,
        "mask": mask,
        "minor": torch.stack([minor_part(condition.mask) for condition in conditions]),
        "references": torch.stack(references),
    }
    words = {
        "caption": caption(clip.scene),
        "plain": caption(clip.scene, appearance=False),
        "names": [condition.name for condition in conditions],
        "things": len(things),
    }
    return tensors, words
