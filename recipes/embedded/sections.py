"""Stage ``sections``: longer clips in sections that the autoencoder sees one by one, as FramePack on Wan makes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from latents import Codec
from shards import load_shards
from torch import Tensor

from vace_adapt.embedded.world.captions import caption
from vace_adapt.embedded.world.render import render
from vace_adapt.embedded.world.scene import draw_scene

COUNT = 4
"""Sections of a clip. Three fill the history, so the last one is denoised as any later one is."""


@dataclass(frozen=True)
class Sections:
    """Encoded clips, in memory.

    Attributes:
        video: float16 [N, C, COUNT*F, h, w]; every F-th frame is the first one of a video of its own.
        captions: full, and without appearance, for each clip.
    """

    video: Tensor
    captions: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.video)


def encode_sections(codec: Codec, seeds: range, latents: int) -> tuple[dict[str, Tensor], list[tuple[str, str]]]:
    """Clips, and their captions, as a shard has them.

    Args:
        codec: the trained autoencoder.
        seeds: of the clips.
        latents: latent frames of a section.
    """
    frames = 4 * latents - 3
    clips = [render(draw_scene(seed, COUNT * frames)) for seed in seeds]
    parts = [[codec(part.astype(np.float32)) for part in np.split(clip.frames, COUNT)] for clip in clips]
    video = torch.stack([torch.cat(own, dim=1) for own in parts])
    return {"video": video}, [(caption(clip.scene), caption(clip.scene, appearance=False)) for clip in clips]


def load_sections(folder: Path) -> Sections:
    """Every shard that is there."""
    tensors, said = load_shards(folder)
    return Sections(tensors["video"], [(full, plain) for full, plain in said])
