"""What was given to a stream and waits for its next chunk. Giving and taking may happen in different threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from vace_adapt.controls import HintScale
from vace_adapt.streaming.queue import Control, ControlQueue
from vace_adapt.streaming.reader import Prompt


@dataclass(frozen=True)
class Changes:
    """What holds from the next chunk on; None means no change. References are wrapped: (None,) takes them away."""

    prompt: Prompt | None = None
    references: tuple[Tensor | None] | None = None
    scale: HintScale | None = None


class Inbox:
    """Control frames and changes of one stream.

    Args:
        first: what holds from chunk 0 on.
    """

    def __init__(self, first: Changes) -> None:
        self._changes = first
        self._queue = ControlQueue()
        self._lock = threading.Lock()

    @property
    def frames(self) -> int:
        """Control frames that wait."""
        return self._queue.frames

    @property
    def exhausted(self) -> bool:
        """Whether the control has ended and all of it was taken."""
        return self._queue.ended and self._queue.frames == 0

    def feed(self, frames: Tensor, mask: Tensor | None, *, last: bool) -> None:
        """Add checked frames [B, T, H, W, 3] and their mask [B, T, H, W]."""
        with self._lock:
            self._queue.add(frames, mask, last=last)

    def change(self, changes: Changes) -> None:
        """Add changes to those that wait; the same thing given twice, the later one counts."""
        with self._lock:
            self._changes = replace(self._changes, **{k: v for k, v in vars(changes).items() if v is not None})

    def take(self, needed: int, chunk: int, check: Callable[[Changes, bool], None]) -> tuple[Control | None, Changes]:
        """What chunk number `chunk` of `needed` frames is made from. Nothing has changed if this raises.

        Args:
            needed: pixel frames.
            chunk: its number.
            check: refuses changes together with the presence of control frames.
        """
        with self._lock:
            self._queue.check(needed, chunk)
            check(self._changes, self._queue.frames > 0)
            changes, self._changes = self._changes, Changes()
            return self._queue.take(needed), changes

    def clear(self) -> None:
        """Let go what was never taken."""
        with self._lock:
            self._queue.clear()
