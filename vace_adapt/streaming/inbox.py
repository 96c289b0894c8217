"""What was given to a stream and waits for its next chunk. Giving and taking may happen in different threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from vace_adapt.composition.anchors import Anchored, Anchors
from vace_adapt.composition.composer import Composer, Given
from vace_adapt.controls import ControlSettings
from vace_adapt.scale import HintScale
from vace_adapt.streaming.queue import FeedQueue
from vace_adapt.streaming.reader import GivenReferences, Prompt


@dataclass(frozen=True)
class Composing:
    """Other options of the control, and what composes by them."""

    settings: ControlSettings
    composer: Composer


@dataclass(frozen=True)
class Changes:
    """What holds from the next chunk on; None means no change. References are wrapped: (None,) takes them away."""

    prompt: Prompt | None = None
    references: tuple[GivenReferences | None] | None = None
    scale: HintScale | None = None
    composing: Composing | None = None


@dataclass(frozen=True)
class Taken:
    """What one chunk is made from.

    Attributes:
        given: what was fed for it, or None.
        real: how many of its frames were fed; the others repeat the last one.
        anchored: its keyframes and clips, or None.
        changes: what changes with it.
    """

    given: Given | None
    real: int
    anchored: Anchored | None
    changes: Changes


class Inbox:
    """Frames, keyframes and changes of one stream.

    Args:
        first: what holds from chunk 0 on.
        anchors: of the stream.

    Attributes:
        chunk: number of the next chunk that takes something.
    """

    def __init__(self, first: Changes, anchors: Anchors) -> None:
        self.chunk = 0
        self._changes = first
        self._anchors = anchors
        self._queue = FeedQueue()
        self._lock = threading.Lock()

    @property
    def frames(self) -> int:
        """Fed frames that wait."""
        return self._queue.frames

    @property
    def next(self) -> Given | None:
        """What was fed for the next frame, or None."""
        with self._lock:
            return self._queue.next

    @property
    def anchors(self) -> list[int]:
        """Frames with a keyframe that are still to come."""
        with self._lock:
            return self._anchors.frames

    @property
    def exhausted(self) -> bool:
        """Whether the control has ended and all of it was taken."""
        return self._queue.ended and self._queue.frames == 0

    def ready(self, needed: int) -> bool:
        """Whether frames wait for the next chunk, and all `needed` of them, or no more will come."""
        return self._queue.frames >= needed or (self._queue.ended and self._queue.frames > 0)

    def feed(self, given: Given, *, last: bool) -> None:
        """Add checked videos [B, T, h, w, 3] and their mask [B, T, h, w]."""
        with self._lock:
            if last:
                self._anchors.check_end(self._anchors.time.pixel_start(self.chunk) + self._queue.frames + given.frames)
            self._queue.add(given, last=last)

    def anchor(self, pictures: Tensor, mask: Tensor, place: Callable[[int], int]) -> None:
        """Add keyframes, see `Anchors.add`; `place` tells the first one's frame from the number of the next chunk."""
        with self._lock:
            end = self._anchors.time.pixel_start(self.chunk) + self._queue.frames if self._queue.ended else None
            self._anchors.add(pictures, mask, place(self.chunk), self.chunk, end)

    def change(self, changes: Changes) -> None:
        """Add changes to those that wait; the same thing given twice, the later one counts."""
        with self._lock:
            self._changes = replace(self._changes, **{k: v for k, v in vars(changes).items() if v is not None})

    def take(self, needed: int, check: Callable[[Changes, Given | None, Anchored | None], None]) -> Taken:
        """What the next chunk, of `needed` frames, is made from. Nothing has changed if this raises.

        Args:
            needed: pixel frames.
            check: refuses changes, what is fed for the chunk's first frame, and its anchors together.
        """
        with self._lock:
            self._queue.check(needed, self.chunk)
            anchored = self._anchors.within(self.chunk)
            check(self._changes, self._queue.next, anchored)
            changes, self._changes = self._changes, Changes()
            self._anchors.drop(self.chunk)
            self.chunk += 1
            given, real = self._queue.take(needed)
            return Taken(given, real, anchored, changes)

    def clear(self) -> None:
        """Let go what was never taken."""
        with self._lock:
            self._queue.clear()
            self._anchors.clear()
