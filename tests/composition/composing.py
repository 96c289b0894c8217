"""A composer on its own, and what it makes as VACE writes it down: frames 0..255 and masks 0 or 255."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vace_adapt.composition.anchors import Anchors
from vace_adapt.composition.composer import Composed, Composer, Given
from vace_adapt.contract import ChunkShapes
from vace_adapt.controls import ControlSettings
from vace_adapt.time_map import TimeMap


def shapes(height: int, width: int, time: TimeMap) -> ChunkShapes:
    """Shapes of a stream of any size; tokens are 8x8 pixels, so that VACE's small golden files fit."""
    return ChunkShapes(time, 16, height // 8, width // 8, (1, 1, 1), (time.stride, 8, 8))


class Stream:
    """A composer, its anchors, and where it is."""

    def __init__(self, height: int, width: int, time: TimeMap, batch: int = 1, steps: int = 1, **controls: Any) -> None:
        settings = ControlSettings.model_validate(controls)
        self.composer = Composer(settings, shapes(height, width, time), batch, steps, "cpu", False)
        self.anchors = Anchors(time, settings.anchor)
        self.chunk = 0

    def anchor(self, pictures: np.ndarray, frame: int, mask: np.ndarray | None = None) -> None:
        """Place uint8 pictures [T, H, W, 3]; the mask [T, H, W] is 0 or 1."""
        unit = torch.from_numpy(pictures)[None].float() / 255
        keep = torch.zeros(unit.shape[:-1]) if mask is None else torch.from_numpy(mask)[None].float()
        self.anchors.add(unit, keep, frame, self.chunk)

    def next(self, given: Given | None = None) -> Composed | None:
        made = self.composer(self.chunk, given, self.anchors.within(self.chunk))
        self.anchors.drop(self.chunk)
        self.chunk += 1
        return made


def given(frames: np.ndarray, mask: np.ndarray | None = None, **videos: np.ndarray) -> Given:
    """uint8 frames [T, H, W, 3] and mask [T, H, W] of one row."""
    fed = {"input": frames, **videos}
    return Given(
        {k: torch.from_numpy(v)[None] for k, v in fed.items()}, None if mask is None else torch.from_numpy(mask)[None]
    )


def levels(pixels: Tensor) -> np.ndarray:
    """[1, C, T, H, W] in [-1, 1] to 0..255, [T, H, W, C]."""
    return rearrange((pixels[0] + 1) * 127.5, "c t h w -> t h w c").numpy()


def masks(composed: Composed) -> np.ndarray:
    """0 or 255, [T, H, W]."""
    assert composed.mask is not None
    return (composed.mask[0, 0] * 255).numpy()
