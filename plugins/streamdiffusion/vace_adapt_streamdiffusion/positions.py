"""Temporal positions that begin again: the official table of rotations ends, and the model was trained on few."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings


class Positions(NamedTuple):
    """Positions of the chunks of a stream.

    Attributes:
        first, frames: latent frames of chunk 0 and of every later one.
        limit: position that no chunk begins at; None for no limit.
        base: position at which the one there begins instead.
        moves: whether the frames before it get lower positions, too.
    """

    first: int
    frames: int
    limit: int | None
    base: int
    moves: bool

    @classmethod
    def of(cls, settings: StreamDiffusionSettings) -> Positions:
        """As the settings say. Officially the base is the last slot, else the place behind it."""
        moves = settings.position_refresh == "move"
        base = settings.slots if moves else settings.slots - 1
        return cls(settings.first_latents, settings.chunk_latents, settings.position_limit, base, moves)

    def __call__(self, start: int) -> tuple[int, int]:
        """Position of the chunk that begins with latent frame `start`, and by how much those before it fall first."""
        if self.limit is None or start < self.limit:
            return start, 0
        begins = self.first + self._chunks(self.limit - self.first) * self.frames
        lap = self._chunks(self.limit - self.base) * self.frames
        inside = (start - begins) % lap
        fall = 0
        if inside == 0 and self.moves:
            fall = (begins if start == begins else self.base + lap) - self.base
        return self.base + inside, fall

    def _chunks(self, frames: int) -> int:
        return -(-frames // self.frames)


def lowered(places: Tensor, by: int) -> Tensor:
    """Temporal positions int64 [..., slots] after a fall by so much, each at least its rank; -1 for none stays.

    Frames that are held twice have one rank.
    """
    there = places >= 0
    before = (places[..., None, :] < places[..., :, None]) & there[..., None, :]
    twin = (places[..., None, :] == places[..., :, None]).tril(-1).any(dim=-1)  # an earlier slot holds it, too
    rank = (before & ~twin[..., None, :]).sum(dim=-1)
    return torch.where(there, torch.maximum(places - by, rank), places)
