"""Control frames and masks that were fed and not used yet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from vace_adapt.conditioning.pixels import frames_to_pixels, mask_to_pixels
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
        self._parts: deque[tuple[Tensor, Tensor | None]] = deque()
        self.frames = 0
        self.ended = False

    def add(self, frames: Tensor, mask: Tensor | None, *, last: bool) -> None:
        """Add checked frames [B, T, H, W, 3] and their mask [B, T, H, W]; after `last`, no more may come."""
        if self.ended:
            raise SessionError("the control ended with last=True: no more frames can be fed")
        self._parts.append((frames, mask))
        self.frames += frames.shape[1]
        self.ended = last

    def check(self, needed: int, chunk: int) -> None:
        """Refuse a chunk for which some frames were fed, but not enough."""
        if 0 < self.frames < needed and not self.ended:
            raise InputError(
                f"chunk {chunk} needs {needed} control frames, {self.frames} are fed: "
                f"feed {needed - self.frames} more, or end the control with last=True"
            )

    def take(self, needed: int) -> Control | None:
        """The control of the next chunk, or None if nothing was fed for it. Call `check` first."""
        if self.frames == 0:
            return None
        real = min(needed, self.frames)
        portions = self._portions(real)
        frames = torch.cat([frames_to_pixels(frames) for frames, _ in portions], dim=2)
        mask = None
        if any(part is not None for _, part in portions):
            masks = [
                torch.ones_like(frames_to_pixels(f)[:, :1]) if m is None else mask_to_pixels(m) for f, m in portions
            ]
            mask = _extended(torch.cat(masks, dim=2), needed)
        return Control(_extended(frames, needed), mask, real)

    def clear(self) -> None:
        self._parts.clear()
        self.frames = 0

    def _portions(self, count: int) -> list[tuple[Tensor, Tensor | None]]:
        """The first `count` frames, taken off the queue, as they were fed."""
        portions = []
        self.frames -= count
        while count:
            frames, mask = self._parts.popleft()
            taken = min(count, frames.shape[1])
            portions.append((frames[:, :taken], None if mask is None else mask[:, :taken]))
            if taken < frames.shape[1]:
                self._parts.appendleft((frames[:, taken:], None if mask is None else mask[:, taken:]))
            count -= taken
        return portions


def _extended(frames: Tensor, length: int) -> Tensor:
    """Frames [B, C, T, H, W] with the last one repeated up to `length`."""
    missing = length - frames.shape[2]
    return torch.cat([frames, frames[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2)
