"""Rotary positions of Wan2.1, computed for any latent frame index.

The head dimension d is split over time, rows and columns: ``d - 4*(d//6)``, ``2*(d//6)``, ``2*(d//6)``. Angles are
computed
in float64 for the positions asked for, so there is no table to run out of: upstream's tables have 1024 rows
(Wan-Video/Wan2.1 wan/modules/model.py, ``rope_params``), which ends a stream after four minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor

THETA = 10000.0


class Rotation(NamedTuple):
    """Cosine and sine of the angles of some tokens, each float32 [L, 1, d/2]."""

    cos: Tensor
    sin: Tensor

    def rows(self, start: int, stop: int) -> Rotation:
        return Rotation(self.cos[start:stop], self.sin[start:stop])


class RotaryGrid:
    """Rotations for latent frames of one size.

    Args:
        head_dim: d, even.
        grid: token rows and columns of a latent frame.
        device: where the rotations are used.
    """

    def __init__(self, head_dim: int, grid: tuple[int, int], device: torch.device) -> None:
        self.grid = grid
        self.device = device
        space = 2 * (head_dim // 6)
        self._time_frequencies = _frequencies(head_dim - 2 * space)
        rows, columns = (torch.outer(torch.arange(n, dtype=torch.float64), _frequencies(space)) for n in grid)
        self._space = torch.cat(
            [repeat(rows, "h c -> h w c", w=grid[1]), repeat(columns, "w c -> h w c", h=grid[0])], dim=-1
        )
        self._space_cos = self._space.cos().float().to(device)
        self._space_sin = self._space.sin().float().to(device)

    def at(self, frames: Sequence[int]) -> Rotation:
        """Rotation of all tokens of latent frames at temporal positions `frames`, frame by frame, row by row."""
        time = torch.outer(torch.tensor(frames, dtype=torch.float64), self._time_frequencies)
        cos = self._join(time.cos().float().to(self.device), self._space_cos)
        sin = self._join(time.sin().float().to(self.device), self._space_sin)
        return Rotation(cos, sin)

    def steps(self, by: Tensor) -> Rotation:
        """Rotation that moves a key by whole latent frames in time, whatever its place.

        Args:
            by: int64 [...], on the rotations' device.

        Returns:
            Cosine and sine, each float32 [..., 1, d/2].
        """
        wide = torch.float32 if by.device.type == "mps" else torch.float64
        time = by[..., None, None].to(wide) * self._time_frequencies.to(by.device, wide)
        still = torch.zeros((*time.shape[:-1], self._space.shape[-1]), dtype=wide, device=by.device)
        angles = torch.cat([time, still], dim=-1)
        return Rotation(angles.cos().float(), angles.sin().float())

    def _join(self, time: Tensor, space: Tensor) -> Tensor:
        rows, columns = self.grid
        time = repeat(time, "f c -> f h w c", h=rows, w=columns)
        space = repeat(space, "h w c -> f h w c", f=time.shape[0])
        return rearrange(torch.cat([time, space], dim=-1), "f h w c -> (f h w) 1 c")


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate neighbouring pairs of the last dimension: x [B, L, H, d], same shape and dtype back."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rotation
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).type_as(x)


def _frequencies(dim: int) -> Tensor:
    return 1.0 / THETA ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
