"""Stage ``portraits``: clips of one thing, with its picture on white and a control that shows no colours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from latents import Codec, latent_area
from shards import load_shards
from torch import Tensor

from vace_adapt.embedded.world.captions import caption
from vace_adapt.embedded.world.controls import CONTROLS
from vace_adapt.embedded.world.render import Clip, reference, render
from vace_adapt.embedded.world.scene import PUPPET, draw_scene

COLOURLESS = ("depth", "canny", "softedge", "scribble", "flow", "layout")
"""Controls without the colours of what they show; a puppet has its pose as well."""

POSES = 0.5
"""Share of the puppets that are shown by their pose."""


@dataclass(frozen=True)
class Portraits:
    """Encoded clips, in memory.

    Attributes:
        video: float16 [N, C, F, h, w].
        control: float16 [N, C, F, h, w], a control of each clip.
        references: float16 [N, C, 1, h, w].
        area: bool [N, F, h, w], where the thing is seen.
        captions: full, and without appearance, for each clip.
    """

    video: Tensor
    control: Tensor
    references: Tensor
    area: Tensor
    captions: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.video)


def encode_portraits(codec: Codec, seeds: range) -> tuple[dict[str, Tensor], list[tuple[str, str]]]:
    """Clips of one thing, and their captions, as a shard has them."""
    clips = [render(draw_scene(seed, things=1)) for seed in seeds]
    tensors = {
        "video": torch.stack([codec(clip.frames.astype(np.float32)) for clip in clips]),
        "control": torch.stack([_control(codec, clip, seed) for clip, seed in zip(clips, seeds, strict=True)]),
        "references": torch.stack([codec(reference(c.scene.things[0])[None].astype(np.float32)) for c in clips]),
        "area": torch.stack([latent_area(torch.from_numpy(clip.masks[0] > 0.5)) for clip in clips]),
    }
    return tensors, [(caption(clip.scene), caption(clip.scene, appearance=False)) for clip in clips]


def load_portraits(folder: Path) -> Portraits:
    """Every shard that is there."""
    tensors, said = load_shards(folder)
    return Portraits(**tensors, captions=[(full, plain) for full, plain in said])


def _control(codec: Codec, clip: Clip, seed: int) -> Tensor:
    random = np.random.default_rng([seed, 3])
    walks = clip.scene.things[0].kind == PUPPET
    name = "pose" if walks and random.random() < POSES else str(random.choice(COLOURLESS))
    return codec(CONTROLS[name](clip).astype(np.float32))
