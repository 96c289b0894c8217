"""The pixels that the autoencoder learns: clips, their controls, and what VACE's inputs look like."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vace_adapt.embedded.world.controls import CONTROLS
from vace_adapt.embedded.world.render import reference, render
from vace_adapt.embedded.world.scene import draw_scene

Array = np.ndarray[Any, Any]


class Pool:
    """Clips and, for each, one other video: a control, a video with gray in it, or a reference that stands still.

    Args:
        count: clips.
        first: seed of the first; the others follow.
    """

    def __init__(self, count: int, first: int) -> None:
        self.videos: list[Array] = []
        for seed in range(first, first + count):
            clip = render(draw_scene(seed))
            random = np.random.default_rng([seed, 1])
            self.videos += [clip.frames, _other(clip, random)]

    def crops(self, count: int, frames: int, size: int, generator: torch.Generator) -> Tensor:
        """float32 [count, 3, frames, size, size] in [-1, 1]."""
        return torch.stack([self._crop(frames, size, generator) for _ in range(count)])

    def _crop(self, frames: int, size: int, generator: torch.Generator) -> Tensor:
        def below(limit: int) -> int:
            return int(torch.randint(limit, (), generator=generator))

        video = self.videos[below(len(self.videos))]
        length, height, width, _ = video.shape
        t, y, x = below(length - frames + 1), below(height - size + 1), below(width - size + 1)
        crop = torch.from_numpy(video[t : t + frames, y : y + size, x : x + size])
        return crop.permute(3, 0, 1, 2).float() / 127.5 - 1


def _other(clip: Any, random: Any) -> Array:
    kind = random.choice(["control", "blanked", "still"], p=(0.6, 0.25, 0.15))
    if kind == "control":
        return CONTROLS[str(random.choice(list(CONTROLS)))](clip)
    if kind == "still":
        thing = clip.scene.things[int(random.integers(len(clip.scene.things)))]
        return np.repeat(reference(thing)[None], len(clip.frames), axis=0)
    mask = np.zeros(clip.frames.shape[:3], bool)
    if random.random() < 0.5:
        start = int(random.integers(1, len(mask)))
        mask[start : start + 40] = True
    top, left = random.integers(0, 40, 2)
    mask[:, top : top + 24, left : left + 24] = True
    blanked = clip.frames.copy()
    blanked[mask] = 128
    return blanked
