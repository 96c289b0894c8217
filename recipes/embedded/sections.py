"""Stage ``sections``: longer clips in sections that the autoencoder sees one by one, as FramePack on Wan makes them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from latents import SHARD, Codec
from safetensors import safe_open
from safetensors.torch import save_file
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


def write_sections(folder: Path, number: int, codec: Codec, first_seed: int, latents: int) -> None:
    """Encode the clips of one shard, unless it is there already.

    Args:
        folder: where shards lie.
        number: of the shard.
        codec: the trained autoencoder.
        first_seed: of all shards.
        latents: latent frames of a section.
    """
    path = folder / f"shard_{number:04d}.safetensors"
    if path.exists():
        return
    frames = 4 * latents - 3
    clips = [render(draw_scene(first_seed + number * SHARD + i, COUNT * frames)) for i in range(SHARD)]
    parts = [[codec(part.astype(np.float32)) for part in np.split(clip.frames, COUNT)] for clip in clips]
    video = torch.stack([torch.cat(own, dim=1) for own in parts])
    captions = [(caption(clip.scene), caption(clip.scene, appearance=False)) for clip in clips]
    unfinished = path.with_suffix(".unfinished")
    save_file({"video": video}, unfinished, metadata={"captions": json.dumps(captions)})
    os.replace(unfinished, path)


def load_sections(folder: Path) -> Sections:
    """Every shard that is there."""
    video, captions = [], []
    for path in sorted(folder.glob("shard_*.safetensors")):
        with safe_open(path, framework="pt") as file:
            video.append(file.get_tensor("video"))
            captions += [(full, plain) for full, plain in json.loads(file.metadata()["captions"])]
    return Sections(torch.cat(video), captions)
