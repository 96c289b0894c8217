"""Keyframes and clips at given frames of a stream: pictures to land on. Shapes: B rows, T frames, h and w of the
source.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vace_adapt.controls import AnchorRule
from vace_adapt.errors import InputError
from vace_adapt.time_map import TimeMap

Placed = tuple[Tensor, Tensor]
"""A picture [B, h, w, 3] and its mask [B, h, w], 0 = keep."""


@dataclass(frozen=True)
class Anchored:
    """The anchors within some frames.

    Attributes:
        frames: float32 [B, T, h, w, 3] within 0..1.
        mask: float32 [B, T, h, w]: at most a half where a frame is to be kept.
        at: bool [T], which frames are anchored; only those mean anything.
        filled: bool [T], which of those only because they are encoded with the anchored one.
    """

    frames: Tensor
    mask: Tensor
    at: Tensor
    filled: Tensor


def first_frame(count: int, frame: int | None, end: int | None, frames: int | None) -> int:
    """The frame on which the first of some keyframes falls.

    Args:
        count: how many they are.
        frame: of the first of them; or
        end: of the last of them, counted from the stream's end where it is below 0.
        frames: how many the stream has; None without an end.

    Raises:
        InputError: not exactly one place, before the stream or past its end.
    """
    if (frame is None) == (end is None):
        raise InputError("a keyframe needs exactly one place: frame, end or chunks")
    if end is not None and end < 0:
        if frames is None:
            raise InputError(f"end={end} counts from the end of a stream, and this one has none: give num_frames")
        end += frames
    first = frame if frame is not None else (end or 0) - count + 1
    last = first + count - 1
    if first < 0:
        raise InputError(f"keyframes that end with frame {last} would begin with frame {first}, before the stream")
    if frames is not None and last >= frames:
        raise InputError(f"a keyframe at frame {last} is past the end: {frames} frames are made")
    return first


class Anchors:
    """The pictures of one stream that are still to come, by frame number.

    The VAE encodes frames in groups (one, then four at a time), and a group of which one frame shows a picture and the
    others nothing encodes to neither. So, by the rule ``group``, the nearest picture fills its whole group; by the
    rule ``frame`` it stands alone, as ali-vilab/VACE vace/annotators/frameref.py has it.

    Args:
        time: of the stream.
        rule: see above.

    Attributes:
        time: of the stream.
    """

    def __init__(self, time: TimeMap, rule: AnchorRule) -> None:
        self.time = time
        self._rule = rule
        self._placed: dict[int, Placed] = {}

    def add(self, pictures: Tensor, mask: Tensor, frame: int, next_chunk: int, end: int | None = None) -> None:
        """Place pictures on frames ``frame .. frame+T-1``; a later one replaces an earlier one.

        Args:
            pictures: float32 [B, T, h, w, 3] within 0..1, in order.
            mask: float32 [B, T, h, w]; a picture is kept where it is at most a half.
            frame: of the first.
            next_chunk: number of the chunk that is made next.
            end: frames the stream will have, where that is known.

        Raises:
            InputError: it would fall on frames that are made already, or never. Nothing was placed.
        """
        made = self.time.pixel_start(next_chunk)
        if frame < made:
            raise InputError(f"a keyframe at frame {frame} is too late: the next frame to be made is {made}")
        last = frame + pictures.shape[1] - 1
        if end is not None and last >= end:
            raise InputError(f"a keyframe at frame {last} is past the end: the control ends after {end} frames")
        for i, placed in enumerate(zip(pictures.unbind(dim=1), mask.unbind(dim=1), strict=True)):
            self._placed[frame + i] = placed

    def check_end(self, end: int) -> None:
        """Refuse a stream that ends before frame number `end` while a keyframe stands there or later.

        Raises:
            InputError: with the first such frame.
        """
        late = [frame for frame in self.frames if frame >= end]
        if late:
            raise InputError(f"a keyframe at frame {late[0]} is past the end: the control ends after {end} frames")

    @property
    def frames(self) -> list[int]:
        """The frames that wait, ascending."""
        return sorted(self._placed)

    def within(self, chunk: int) -> Anchored | None:
        """The anchors of a chunk, or None where it has none."""
        start, count = self.time.pixel_start(chunk), self.time.pixels(chunk)
        placed = {frame - start: p for frame, p in self._placed.items() if start <= frame < start + count}
        if not placed:
            return None
        filled = self._filled(placed, chunk) if self._rule == "group" else placed
        nothing = next(iter(filled.values()))  # what stands on the other frames is not looked at
        pictures, masks = zip(*(filled.get(i, nothing) for i in range(count)), strict=True)
        at = torch.tensor([i in filled for i in range(count)])
        filling = torch.tensor([i in filled and i not in placed for i in range(count)])
        return Anchored(torch.stack(pictures, dim=1), torch.stack(masks, dim=1), at, filling)

    def drop(self, chunk: int) -> None:
        """Forget what a chunk has used."""
        end = self.time.pixel_start(chunk + 1)
        self._placed = {frame: placed for frame, placed in self._placed.items() if frame >= end}

    def clear(self) -> None:
        self._placed.clear()

    def _filled(self, placed: dict[int, Placed], chunk: int) -> dict[int, Placed]:
        """Every frame of a group that has a picture, with the nearest picture of the group (the earlier of two)."""
        filled = {}
        for group in self.time.groups(chunk):
            shown = [frame for frame in group if frame in placed]
            for frame in group if shown else ():
                filled[frame] = placed[min(shown, key=lambda other: (abs(other - frame), other))]
        return filled
