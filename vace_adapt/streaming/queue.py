"""Videos and masks that were fed and not used yet."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from vace_adapt.composition.composer import Given
from vace_adapt.errors import InputError, SessionError

MASK = "a mask"
"""Stands among the names of videos for the mask."""


class FeedQueue:
    """Frames in the order they were fed. A chunk takes what it needs; nothing is used twice, nothing is dropped."""

    def __init__(self) -> None:
        self._parts: deque[Given] = deque()
        self.frames = 0
        self.ended = False

    @property
    def next(self) -> Given | None:
        """What was fed for the next frame; None for nothing."""
        return self._parts[0] if self._parts else None

    def add(self, given: Given, *, last: bool) -> None:
        """Add checked videos [B, T, h, w, 3], all of one length, and their mask [B, T, h, w]; after `last`, no more may
        come.
        """
        if self.ended:
            raise SessionError("the control ended with last=True: no more frames can be fed")
        self._parts.append(given)
        self.frames += given.frames
        self.ended = last

    def check(self, needed: int, chunk: int) -> None:
        """Refuse a chunk for which some frames were fed, but not enough, or not of the same videos."""
        if 0 < self.frames < needed and not self.ended:
            raise InputError(
                f"chunk {chunk} needs {needed} control frames, {self.frames} are fed: "
                f"feed {needed - self.frames} more, or end the control with last=True"
            )
        seen: list[set[str]] = []
        covered = 0
        for part in self._parts:
            if covered < needed:
                seen.append({*part.videos, *({MASK} if part.mask is not None else ())})
                covered += part.frames
        for names in seen[1:]:
            if odd := sorted(seen[0] ^ names):
                what = MASK if odd[0] == MASK else f"the video {odd[0]}"
                raise InputError(f"chunk {chunk} has {what} for some frames only: feed it for all or none")

    def take(self, needed: int) -> tuple[Given | None, int]:
        """What was fed for the next chunk, its last frame repeated up to `needed`, and how many frames that were; None
        and 0 if nothing was. Call `check` first.
        """
        if self.frames == 0:
            return None, 0
        real = min(needed, self.frames)
        portions = self._portions(real)
        videos = {
            name: _extended(_joined([part.videos[name] for part in portions]), needed) for name in portions[0].videos
        }
        masks = [part.mask for part in portions if part.mask is not None]
        return Given(videos, _extended(_joined(masks), needed) if masks else None), real

    def clear(self) -> None:
        self._parts.clear()
        self.frames = 0

    def _portions(self, count: int) -> list[Given]:
        """The first `count` frames, taken off the queue, as they were fed."""
        portions = []
        self.frames -= count
        while count:
            part = self._parts.popleft()
            taken = min(count, part.frames)
            portions.append(part.between(0, taken))
            if taken < part.frames:
                self._parts.appendleft(part.between(taken, part.frames))
            count -= taken
        return portions


def _joined(parts: list[Tensor]) -> Tensor:
    """Frames one after another; uint8 where all of them are, float within 0..1 otherwise."""
    if len({part.dtype for part in parts}) > 1:
        parts = [part.float() / 255 if part.dtype == torch.uint8 else part for part in parts]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _extended(frames: Tensor, length: int) -> Tensor:
    """Frames [B, T, ...] with the last one repeated up to `length`."""
    missing = length - frames.shape[1]
    return torch.cat([frames, frames[:, -1:].expand(-1, missing, *frames.shape[2:])], dim=1) if missing else frames
