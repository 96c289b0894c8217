"""What a forward pass over the chunks of a stream batch is made of, as tensors: by row, each chunk having B rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import repeat
from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid, Rotation


class Use(NamedTuple):
    """A chunk in one block of rows.

    Attributes:
        start, frames: absolute latent frame it begins with, and how many it has.
        position: temporal position of its first frame.
        moved: by how much the positions of the frames before it fall before the pass; 0 for nothing.
        first: whether this is the first pass over it in this block.
        references: how many the pass sees.
    """

    start: int
    frames: int
    position: int
    moved: int
    first: bool
    references: int = 0


def rotation(uses: Sequence[Use], rope: RotaryGrid, batch: int) -> Rotation:
    """Of the tokens of all chunks: [L, 1, d/2] of one, else [R, L, 1, d/2]."""
    each = [rope.at(range(use.position, use.position + use.frames)) for use in uses]
    if len(each) == 1:
        return each[0]
    return Rotation(*(torch.stack(tables).repeat_interleave(batch, dim=0) for tables in zip(*each, strict=True)))


def in_front(use: Use, rope: RotaryGrid) -> tuple[int, Rotation] | None:
    """Tokens of a chunk's references, and the rotation that puts their keys at the positions in front of it."""
    if use.references == 0:
        return None
    rows, columns = rope.grid
    return use.references * rows * columns, rope.at(range(use.position - use.references, use.position))


def mask(
    uses: Sequence[Use], visible: Sequence[int], slots: int, frame_tokens: int, batch: int, device: torch.device
) -> Tensor | None:
    """Which tokens the rows see, bool [R, 1, 1, K]: of the references, which end where the slots begin, and of the
    slots. None where every row sees all.

    Args:
        uses: the chunks.
        visible: filled slots, by chunk.
        slots: in all.
        frame_tokens: of a slot.
        batch, device: rows B, and where the mask is used.
    """
    references = [use.references for use in uses]
    most = max(references)
    if set(visible) == {slots} and set(references) == {most}:
        return None
    first = (most - torch.tensor(references))[:, None] * frame_tokens
    last = (most + torch.tensor(visible))[:, None] * frame_tokens
    token = torch.arange((most + slots) * frame_tokens)
    return repeat((first <= token) & (token < last), "n k -> (n b) 1 1 k", b=batch).to(device)


def counted(starts: Sequence[int], count: int, batch: int, device: torch.device) -> Tensor:
    """``start, start + 1, ...`` by row: int64 [R, count]."""
    return by_row(starts, batch, device)[:, None] + torch.arange(count, device=device)


def by_row(numbers: Sequence[int], batch: int, device: torch.device) -> Tensor:
    """A number for each chunk as one for each row: int64 [R]; made on the device where all are equal."""
    if len(set(numbers)) == 1:
        return torch.full((len(numbers) * batch,), numbers[0], device=device)
    return torch.tensor(numbers, dtype=torch.int64).repeat_interleave(batch).to(device)
