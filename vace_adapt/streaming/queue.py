"""Control frames and masks that were fed and not used yet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vace_adapt.errors import InputError, SessionError


@dataclass(frozen=True)
class Control:
    """The control of one chunk.

    Attributes:
        frames: [B, 3, T, H, W] in [-1, 1].
        mask: [B, 1, T, H, W] in [0, 1], or None for all 1.
        real: how many of the T frames were fed; the others repeat the last one.
    """

    frames: Tensor
    mask: Tensor | None
    real: int


class ControlQueue:
    """Frames in the order they were fed. A chunk takes what it needs; nothing is used twice, nothing is dropped."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor | None]] = []
        self.ended = False

    @property
    def frames(self) -> int:
        return sum(frames.shape[2] for frames, _ in self._parts)

    def add(self, frames: Tensor, mask: Tensor | None, *, last: bool) -> None:
        """Add frames [B, 3, T, H, W] and their mask; after `last`, no more may come."""
        if self.ended:
            raise SessionError("the control ended with last=True: no more frames can be fed")
        self._parts.append((frames, mask))
        self.ended = last

    def check(self, needed: int, chunk: int) -> None:
        """Refuse a chunk for which some frames were fed, but not enough."""
        have = self.frames
        if 0 < have < needed and not self.ended:
            raise InputError(
                f"chunk {chunk} needs {needed} control frames, {have} are fed: feed {needed - have} more, "
                "or end the control with last=True"
            )

    def take(self, needed: int) -> Control | None:
        """The control of the next chunk, or None if nothing was fed for it. Call `check` first."""
        have = self.frames
        if have == 0:
            return None
        real = min(needed, have)
        frames = torch.cat([part for part, _ in self._parts], dim=2)
        mask = None
        if any(part is not None for _, part in self._parts):
            mask = torch.cat([_ones_like(f) if m is None else m for f, m in self._parts], dim=2)
        rest = frames[:, :, real:], None if mask is None else mask[:, :, real:]
        self._parts = [rest] if have > real else []
        missing = needed - real
        used = _extend(frames[:, :, :real], missing)
        return Control(used, None if mask is None else _extend(mask[:, :, :real], missing), real)


def _ones_like(frames: Tensor) -> Tensor:
    return torch.ones_like(frames[:, :1])


def _extend(frames: Tensor, count: int) -> Tensor:
    """Repeat the last frame `count` times."""
    return torch.cat([frames, frames[:, :, -1:].expand(-1, -1, count, -1, -1)], dim=2)
