"""One stream: its inputs, its memory, its chunks.

Giving (`vace_adapt.streaming.inputs`) and taking may happen in different threads; chunks are made one after another.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from vace_adapt.composition.anchors import Anchored
from vace_adapt.composition.composer import Given
from vace_adapt.contract import CacheOps, ChunkReport
from vace_adapt.errors import InputError
from vace_adapt.streaming.chunk import StreamedChunk
from vace_adapt.streaming.inbox import Changes, Taken
from vace_adapt.streaming.inputs import StreamInputs
from vace_adapt.streaming.making import Made
from vace_adapt.streaming.memory import peak_bytes


class Session(StreamInputs):
    """One stream, and the iterator over its chunks. Made by `Pipeline.stream`; a context manager."""

    @property
    def cache(self) -> CacheOps:
        """The base model's memory of this stream; gone once the stream is closed."""
        return self._maker.cache

    def close(self) -> None:
        """End the stream and let its memory go, once the chunk that is being made is done. Doing it twice does no
        harm.
        """
        self._closing = True
        with self._turn:
            self._close()

    def __iter__(self) -> Iterator[StreamedChunk]:
        return self

    def __next__(self) -> StreamedChunk:
        """Make the next chunk from what was given so far.

        A pipeline that works on several chunks at once begins the ones after it, too, as far as their frames are fed
        already; what is changed from then on takes effect at the first chunk that has not begun.

        Raises:
            StopIteration: `num_frames` are made, or the control has ended.
            InputError: some control frames were fed for this chunk, but not enough, or they cannot be combined with
                the references, or it is to be re-anchored on a keyframe and there is none; feed or change, and go on.
                What an annotator cannot use (a label that is not found) ends the stream.
            SessionError: the stream is closed or has failed.
        """
        with self._turn:
            if self._closing:
                self._close()  # whoever closes may have to wait long for the turn that a loop takes again and again
            self._check_open()
            begin = time.perf_counter()
            if self._maker.unfinished == 0:
                if self._frames_to_begin() == 0:
                    raise StopIteration
                self._begin(self._take())
            while self._begins_early():
                try:
                    taken = self._take()
                except InputError:
                    break  # it is said when that chunk's own turn comes
                self._begin(taken)
            try:
                made = self._maker.finish()
                taken = made.begun.taken
                left = None if self.num_frames is None else self.num_frames - self._made
                kept = made.frames.shape[1] if left is None else min(made.frames.shape[1], left)
                kept = kept if taken.given is None else min(kept, taken.real)
                report = self._report(made, kept, time.perf_counter() - begin)
                self.engine.hooks.chunk_done(report)
            except BaseException as error:
                self._end(f"failed at chunk {self._index} ({type(error).__name__}: {error})")
                raise
            self._index += 1
            self._made += kept
            return made.streamed(kept, report)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- one chunk ----------------------------------------------------------------------------------------------------

    def _take(self) -> Taken:
        """Check everything about the next chunk, then take what it is made from. Nothing has changed if this raises."""
        index = self._inbox.chunk
        self._check_length(self.shapes.time.pixel_start(index) + 1)

        def check(changes: Changes, given: Given | None, anchored: Anchored | None) -> None:
            self._maker.check(index, anchored)
            path, composing = self._maker.path, changes.composing
            composer = self._maker.composer if composing is None else composing.composer
            if path is None or composer is None:
                return
            if given is not None:
                composer.check(given)
            control = given is not None or anchored is not None or composer.generates
            path.check(changes.references, changes.scale, control=control, chunk=index)

        return self._inbox.take(self.shapes.time.pixels(index), check)

    def _begin(self, taken: Taken) -> None:
        """Begin the chunk that was taken last."""
        index = self._inbox.chunk - 1
        try:
            self._maker.begin(index, taken)
        except BaseException as error:
            self._end(f"failed at chunk {index} ({type(error).__name__}: {error})")
            raise

    def _begins_early(self) -> bool:
        """Whether the next chunk begins before others are finished: the loop has room, its frames are all fed, and it
        needs none of their latents.
        """
        if self._maker.unfinished >= self.engine.parts.chunks_at_once or self._frames_to_begin() == 0:
            return False
        if self._maker.waits(self._inbox.chunk):
            return False
        return self._inbox.ready(self.shapes.time.pixels(self._inbox.chunk))

    def _report(self, made: Made, pixels: int, seconds: float) -> ChunkReport:
        clock = self.shapes.time
        return ChunkReport(
            index=self._index,
            latent_start=clock.latent_start(self._index),
            latents=clock.latents(self._index),
            pixels=pixels,
            seconds=seconds,
            controlled=made.controlled,
            references=made.begun.references,
            cache_bytes=sum(tensor.numel() * tensor.element_size() for tensor in self._maker.held()),
            peak_memory_bytes=peak_bytes(self.engine.device),
            drift=made.drift,
            reanchored=made.begun.reanchored,
        )

    def _frames_to_begin(self) -> int | None:
        """Pixel frames to make that no chunk has begun; None for any number."""
        if self._inbox.exhausted:
            return 0
        begun = self.shapes.time.pixel_start(self._inbox.chunk)
        return None if self.num_frames is None else max(0, self.num_frames - begun)

    def _close(self) -> None:
        if self._closed is None:
            self._end("is closed")

    def _end(self, why: str) -> None:
        """No more chunks; everything large is let go."""
        with self._changing:
            self._closed = why
            self._composing = None
        self._maker.close()
        self._inbox.clear()
