"""The pictures that steer: every structural control's annotator at work, and their mean where several overlap.

Shapes: B rows, T frames, h and w of the source, S denoise steps. Float frames are within 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import einsum
from torch import Tensor

from vace_adapt.boxes import to_pixels
from vace_adapt.composing import Structure
from vace_adapt.composition.pool import AnnotatorPool
from vace_adapt.composition.refuse import of_structure
from vace_adapt.conditioning.pixels import to_unit
from vace_adapt.contract import Annotator
from vace_adapt.controls import ControlSettings
from vace_adapt.errors import InputError


@dataclass(frozen=True)
class Steering:
    """What steers some frames.

    Attributes:
        frames: float32 [B, T, h, w, 3]; meaningful where anything steers.
        where: bool [h, w]: where that is; None for everywhere.
        scales: float32 [S, h, w]: the mean scale at each denoise step, 1 where nothing steers; None where every scale
            is 1.
    """

    frames: Tensor
    where: Tensor | None
    scales: Tensor | None

    def over(self, blank: float) -> Tensor:
        """The frames, with `blank` where nothing steers."""
        return self.frames if self.where is None else self.frames.masked_fill(~self.where[..., None], blank)


class _Part(NamedTuple):
    """One control at work: its frames, its share by pixel [h, w], and its scale at each denoise step."""

    frames: Tensor
    share: Tensor
    scales: list[float]


class Steered:
    """The structural controls of one stream.

    Args:
        settings: options of the control; see `vace_adapt.composition.refuse` for what they must be.
        pool: where annotators come from.
        steps: denoise steps S.

    Raises:
        InputError: a region that holds no pixel.
    """

    def __init__(self, settings: ControlSettings, pool: AnnotatorPool, steps: int) -> None:
        self._structures = settings.structure
        self._size = pool.canvas.height, pool.canvas.width
        self._device = pool.canvas.device
        self._steps = steps
        self._annotators: list[list[Annotator]] = []
        self._reads: list[str | None] = []
        self.first_frames = 1
        for structure in self._structures:
            if not self._region(structure).any():
                size = "x".join(map(str, self._size))
                raise InputError(f"controls.structure: region {list(structure.region or ())} holds no pixel of {size}")
            info, options, own = of_structure(settings, structure)
            self._annotators.append(pool.rows(info.name, options, f"control of {structure.video}"))
            self._reads.append(structure.video if info.reads == "frames" else None)
            self.first_frames = max(self.first_frames, info.first_frames(own))

    @property
    def generates(self) -> bool:
        """Whether any control comes from its options alone, so that it steers without being fed."""
        return None in self._reads

    def __call__(self, videos: Mapping[str, Tensor], chunk: int, start: int, count: int, batch: int) -> Steering | None:
        """Annotate a chunk's frames.

        Args:
            videos: by name, uint8 or float [B, T, h, w, 3]; what is not there does not steer.
            chunk: its number, for schedules.
            start: number of its first frame.
            count: its frames T.
            batch: rows B.

        Returns:
            None where nothing steers.
        """
        parts = []
        for structure, annotators, reads in zip(self._structures, self._annotators, self._reads, strict=True):
            scales = [structure.scale * structure.schedule.at(chunk, step) for step in range(self._steps)]
            if max(scales) == 0 or (reads is not None and reads not in videos):
                for annotator in annotators:
                    annotator.pause()
                continue
            video = self._nothing(batch, count) if reads is None else videos[reads]
            frames = _annotated(annotators, video, start, self._device)
            parts.append(_Part(frames, structure.weight * max(scales) * self._region(structure), scales))
        return self._together(parts) if parts else None

    def _together(self, parts: list[_Part]) -> Steering:
        """The mean of some controls by their shares."""
        share = torch.stack([part.share for part in parts]).sum(dim=0)
        steers = share > 0
        divisor = torch.where(steers, share, 1.0)
        frames = parts[0].frames
        if len(parts) > 1:
            frames = torch.zeros_like(frames)
            for part in parts:
                frames.addcmul_(part.frames, (part.share / divisor)[..., None])
        scales = None
        if any(set(part.scales) != {1.0} for part in parts):
            numbers = torch.tensor([part.scales for part in parts], device=self._device)
            total = einsum(numbers, torch.stack([part.share for part in parts]), "n s, n h w -> s h w")
            scales = torch.where(steers, total / divisor, 1.0)
        return Steering(frames, None if steers.all() else steers, scales)

    def _region(self, structure: Structure) -> Tensor:
        """1 where a control steers, [h, w]: the pixels whose centres lie in its region."""
        height, width = self._size
        left, top, right, bottom = to_pixels(structure.region or (0, 0, 1, 1), height, width)
        region = torch.zeros((height, width), device=self._device)
        region[top:bottom, left:right] = 1.0
        return region

    def _nothing(self, batch: int, count: int) -> Tensor:
        return torch.full((batch, count, *self._size, 3), 128, dtype=torch.uint8)


def _annotated(annotators: Sequence[Annotator], video: Tensor, start: int, device: str) -> Tensor:
    """Every row through its own annotator: float32 [B, T, h, w, 3] within 0..1. A ready-made picture keeps its float
    values.
    """
    rows = []
    for annotator, row in zip(annotators, video, strict=True):
        levels = to_levels(row)
        made = annotator(levels, start)
        rows.append(row if made is levels else torch.from_numpy(np.ascontiguousarray(made)))
    return to_unit((rows[0][None] if len(rows) == 1 else torch.stack(rows)).to(device))


def to_levels(frames: Tensor) -> np.ndarray[Any, Any]:
    """Frames of any checked kind as uint8 of numpy."""
    levels = frames if frames.dtype == torch.uint8 else (frames * 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.numpy())
