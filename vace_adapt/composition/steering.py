"""The pictures that steer: every structural control's annotator at work, and their mean where several overlap.

Shapes: B rows, T frames, h and w of the source, S denoise steps. Float frames are within 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vace_adapt.annotators.find import annotator_settings, load_annotator
from vace_adapt.composing import Structure
from vace_adapt.composition.pool import AnnotatorPool
from vace_adapt.contract import Annotator
from vace_adapt.errors import InputError


@dataclass(frozen=True)
class Steering:
    """What steers some frames.

    Attributes:
        frames: float32 [B, T, h, w, 3]; meaningful where `share` is over 0.
        share: float32 [T, h, w]: by how much anything steers a pixel; 0 where nothing does.
        scales: float32 [S, T, h, w]: the mean scale there at each denoise step; None where every scale is 1.
    """

    frames: Tensor
    share: Tensor
    scales: Tensor | None

    def over(self, blank: float) -> Tensor:
        """The frames, with `blank` where nothing steers."""
        everywhere = bool((self.share > 0).all())
        return self.frames if everywhere else torch.where(self.share[..., None] > 0, self.frames, torch.full((), blank))


class Steered:
    """The structural controls of one stream.

    Args:
        structures: what they are.
        options: of annotators, by name.
        pool: where annotators come from.
        steps: denoise steps S.

    Raises:
        InputError: an annotator makes masks, or cannot be used here.
    """

    def __init__(
        self,
        structures: Sequence[Structure],
        options: Mapping[str, Mapping[str, Any]],
        pool: AnnotatorPool,
        steps: int,
    ) -> None:
        self._structures = tuple(structures)
        self._size = pool.canvas.height, pool.canvas.width
        self._steps = steps
        self._annotators: list[list[Annotator]] = []
        self._reads: list[str | None] = []
        self.first_frames = 1
        for structure in self._structures:
            info = load_annotator(structure.annotator)
            if info.makes != "control":
                raise InputError(f"annotator {info.name!r} makes a mask: name it in controls.mask.annotator")
            given = {**options.get(info.name, {}), **structure.options}
            self._annotators.append(pool.rows(info.name, given, f"control of {structure.video}"))
            self._reads.append(structure.video if info.reads == "frames" else None)
            self.first_frames = max(self.first_frames, info.first_frames(annotator_settings(info, given)))

    @property
    def videos(self) -> set[str]:
        """Names of the videos that are read."""
        return {name for name in self._reads if name is not None}

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
        shape = (count, *self._size)
        total = torch.zeros((batch, *shape, 3))
        share = torch.zeros(shape)
        scaled: Tensor = torch.zeros((self._steps, *shape))
        uniform = True
        for structure, annotators, reads in zip(self._structures, self._annotators, self._reads, strict=True):
            scales = [structure.scale * structure.schedule.at(chunk, step) for step in range(self._steps)]
            if max(scales) == 0 or (reads is not None and reads not in videos):
                for annotator in annotators:
                    annotator.pause()
                continue
            video = self._nothing(batch, count) if reads is None else videos[reads]
            part = structure.weight * max(scales) * self._region(structure)
            total += part[..., None] * _annotated(annotators, video, start)
            share += part
            scaled += torch.tensor(scales)[:, None, None, None] * part
            uniform = uniform and set(scales) == {1.0}
        if not share.any():
            return None
        frames = total / share.clamp(min=torch.finfo(share.dtype).tiny)[..., None]
        return Steering(frames, share, None if uniform else _mean(scaled, share))

    def _region(self, structure: Structure) -> Tensor:
        """1 where a control steers, [h, w]: the pixels whose centres lie in its region."""
        height, width = self._size
        region = torch.ones((height, width))
        if structure.region is not None:
            left, top, right, bottom = structure.region
            rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
            region *= ((rows >= top * height) & (rows < bottom * height))[:, None]
            region *= ((columns >= left * width) & (columns < right * width))[None]
        return region

    def _nothing(self, batch: int, count: int) -> Tensor:
        return torch.full((batch, count, *self._size, 3), 128, dtype=torch.uint8)


def _annotated(annotators: Sequence[Annotator], video: Tensor, start: int) -> Tensor:
    """Every row through its own annotator: float32 [B, T, h, w, 3] within 0..1. A ready-made picture keeps its float
    values.
    """
    rows = []
    for annotator, row in zip(annotators, video, strict=True):
        levels = to_levels(row)
        made = annotator(levels, start)
        rows.append(to_unit(row) if made is levels else torch.from_numpy(np.ascontiguousarray(made)).float() / 255)
    return torch.stack(rows)


def to_levels(frames: Tensor) -> np.ndarray[Any, Any]:
    """Frames of any checked kind as uint8 of numpy."""
    levels = frames if frames.dtype == torch.uint8 else (frames * 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.numpy())


def to_unit(frames: Tensor) -> Tensor:
    """Frames of any checked kind as float32 within 0..1."""
    return frames.float() / 255 if frames.dtype == torch.uint8 else frames


def _mean(scaled: Tensor, share: Tensor) -> Tensor:
    """The mean scale [S, T, h, w] where anything steers, 1 elsewhere."""
    return torch.where(share > 0, scaled / share.clamp(min=torch.finfo(share.dtype).tiny), torch.ones_like(scaled))
