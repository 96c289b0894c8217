"""One stream: its inputs, its memory, its chunks.

Inputs declare their life. The prompt, the references and the scale hold until they are changed; control frames and
masks belong to the chunk they were fed for and expire with it. Whatever is fed or changed takes effect at the next
chunk, never inside one. Everything is checked where it is given, before anything changes; a refused call leaves the
stream as it was. Giving and taking may happen in different threads; chunks are made one after another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import torch

from vace_adapt.conditioning.pixels import Frames
from vace_adapt.contract import CacheOps, ChunkReport
from vace_adapt.controls import ControlSettings, HintScale
from vace_adapt.errors import InputError, SessionError
from vace_adapt.streaming.chunk import SessionChunk, StreamedChunk
from vace_adapt.streaming.control_path import ControlPath
from vace_adapt.streaming.engine import Engine
from vace_adapt.streaming.inbox import Changes, Inbox
from vace_adapt.streaming.loop import Loop
from vace_adapt.streaming.memory import peak_bytes
from vace_adapt.streaming.queue import Control
from vace_adapt.streaming.reader import InputReader, Prompt, References, scale_of


class Session:
    """State of one stream, and the iterator over its chunks. Made by `Pipeline.stream`; a context manager.

    Args:
        engine: what runs it.
        prompt: one, or one for each batch row.
        seeds: one for each batch row.
        height, width: pixels.
        references: images that hold from the start.
        num_frames: pixel frames to make at most; a control that ends ends the stream before.
        controls: options of the control.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: str | Sequence[str],
        seeds: Sequence[int],
        height: int,
        width: int,
        references: References,
        num_frames: int | None,
        controls: ControlSettings,
    ) -> None:
        if num_frames is not None and num_frames < 1:
            raise InputError(f"num_frames must be at least 1, not {num_frames}")
        if controls.kv_policy == "with_hints":
            engine.hooks.require("clean_pass")
        self.engine = engine
        self.batch = len(seeds)
        self.seeds = tuple(seeds)
        self.controls = controls
        self.num_frames = num_frames
        self.shapes = engine.hooks.chunk_shapes(engine.parts, height, width)
        self._check_length(0 if num_frames is None else num_frames)
        self._reader = InputReader(engine, self.shapes, self.batch, controls)
        self._path = ControlPath.open(engine, self.shapes, controls, self.seeds)
        images = self._reader.references(references)
        if images is not None:
            self._need_control("references")
        self._inbox = Inbox(Changes(self._reader.prompt(prompt), None if images is None else (images,)))
        self._index = 0
        self._made = 0
        self._prompt: Prompt | None = None
        self._closed: str | None = None
        self._turn = threading.RLock()
        self._loop = Loop(engine, self.shapes, self.batch)

    @property
    def cache(self) -> CacheOps:
        """The base model's memory of this stream; gone once the stream is closed."""
        return self._loop.cache

    # --- giving -------------------------------------------------------------------------------------------------------

    def feed(self, control: Frames, mask: Frames | None = None, *, last: bool = False) -> None:
        """Give control frames, any number at a time; a chunk takes what it needs (9, then 12 for LongLive).

        Args:
            control: see `vace_adapt.conditioning.pixels`. Where the mask is 1 they steer (depth, pose, edges, ...),
                where it is 0 they are kept.
            mask: 1 = generate, 0 = keep; None means generate everywhere.
            last: no more frames will come. The last chunk is completed by repeating the last frame, and cut again.

        Raises:
            InputError: wrong size, length, layout, dtype, or values that are not finite.
            SessionError: the stream is closed, the control has ended, or the pipeline has no control weights.
        """
        self._check_open()
        self._need_control("control frames")
        self._inbox.feed(*self._reader.control(control, mask), last=last)

    def update(
        self,
        *,
        prompt: str | Sequence[str] | None = None,
        references: References | None = None,
        scale: float | HintScale | None = None,
    ) -> None:
        """Change what holds until changed. Takes effect at the next chunk; what is not named stays.

        Args:
            prompt: one for all rows, or one for each. The prompt that is in force already is no change.
            references: the new references; an empty list takes them away.
            scale: a number for control and references alike, or a `HintScale`.

        Raises:
            InputError: not usable; nothing was changed.
            SessionError: the stream is closed, or the pipeline has no control weights.
            Unsupported: another prompt inside a stream, where the pipeline declares no prompt switch.
        """
        self._check_open()
        changes = Changes(
            prompt=None if prompt is None else self._reader.prompt(prompt),
            references=None if references is None else (self._reader.references(references),),
            scale=None if scale is None else scale_of(scale),
        )
        if changes.prompt is not None and self._index > 0:
            self.engine.hooks.require("prompt_switch")
        if changes.references is not None:
            self._need_control("references")
        if changes.scale is not None:
            self._need_control("scale").check_scale(changes.scale)
        self._inbox.change(changes)

    def close(self) -> None:
        """End the stream and let its memory go, once the chunk that is being made is done. Doing it twice does no
        harm.
        """
        with self._turn:
            if self._closed is None:
                self._end("is closed")

    @property
    def waiting(self) -> int:
        """Control frames that were fed and not used yet."""
        return self._inbox.frames

    # --- taking -------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[StreamedChunk]:
        return self

    def __next__(self) -> StreamedChunk:
        """Make the next chunk from what was given so far.

        Raises:
            StopIteration: `num_frames` are made, or the control has ended.
            InputError: some control frames were fed for this chunk, but not enough, or they cannot be combined with the
                references; feed or change, and go on.
            SessionError: the stream is closed or has failed.
        """
        with self._turn:
            self._check_open()
            left = self._frames_left()
            if left == 0:
                raise StopIteration
            begin = time.perf_counter()
            control, changes = self._take()
            try:
                with torch.no_grad():
                    chunk, controlled = self._begin(control, changes)
                    latents, frames = self._loop.make(chunk)
                kept = frames.shape[1] if left is None else min(frames.shape[1], left)
                kept = kept if control is None else min(kept, control.real)
                report = self._report(chunk, kept, time.perf_counter() - begin, controlled)
                self.engine.hooks.chunk_done(report)
            except BaseException as error:
                self._end(f"failed at chunk {self._index} ({type(error).__name__}: {error})")
                raise
            self._index += 1
            self._made += kept
            return StreamedChunk(frames[:, :kept], latents, report)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- one chunk ----------------------------------------------------------------------------------------------------

    def _take(self) -> tuple[Control | None, Changes]:
        """Check everything about the next chunk, then take what it is made from. Nothing has changed if this raises."""
        self._check_length(self._made + 1)

        def check(changes: Changes, control: bool) -> None:
            if self._path is not None:
                self._path.check(changes.references, changes.scale, control=control, chunk=self._index)

        return self._inbox.take(self.shapes.time.pixels(self._index), self._index, check)

    def _begin(self, control: Control | None, changes: Changes) -> tuple[SessionChunk, bool]:
        """Apply the changes and make the chunk; also whether the context path will run."""
        new_prompt = changes.prompt is not None and (self._prompt is None or changes.prompt.words != self._prompt.words)
        self._prompt = changes.prompt if new_prompt else self._prompt
        assert self._prompt is not None
        context = None
        if self._path is not None:
            if new_prompt:
                self._path.set_prompt()
            if changes.references is not None:
                self._path.set_references(*changes.references)
            if changes.scale is not None:
                self._path.set_scale(changes.scale)
            context = self._path.chunk(self._index, control)
        chunk = SessionChunk(
            self.engine.parts,
            self.shapes,
            self.seeds,
            self._index,
            self._prompt.embeds,
            prompt_changed=new_prompt,
            context=context,
            hints_in_clean_pass=self.controls.kv_policy == "with_hints",
        )
        return chunk, context is not None and context.runs

    def _report(self, chunk: SessionChunk, pixels: int, seconds: float, controlled: bool) -> ChunkReport:
        held = [*self.cache.tensors().values(), *([] if self._path is None else self._path.tensors().values())]
        return ChunkReport(
            index=chunk.index,
            latent_start=chunk.start,
            latents=chunk.frames,
            pixels=pixels,
            seconds=seconds,
            controlled=controlled,
            references=0 if self._path is None else self._path.references,
            cache_bytes=sum(tensor.numel() * tensor.element_size() for tensor in held),
            peak_memory_bytes=peak_bytes(self.engine.device),
        )

    # --- checks -------------------------------------------------------------------------------------------------------

    def _frames_left(self) -> int | None:
        if self._inbox.exhausted:
            return 0
        return None if self.num_frames is None else self.num_frames - self._made

    def _check_length(self, frames: int) -> None:
        most = self.shapes.most_pixels
        if most is not None and frames > most:
            raise InputError(
                f"{frames} frames are more than the {most} that this pipeline can make without a window "
                f"({self.shapes.max_latents} latent frames)"
            )

    def _check_open(self) -> None:
        if self._closed is not None:
            raise SessionError(f"this stream {self._closed}")

    def _end(self, why: str) -> None:
        """No more chunks; everything large is let go."""
        self._closed = why
        self._loop.close()
        self._path = None
        self._inbox.clear()

    def _need_control(self, what: str) -> ControlPath:
        if self._path is None:
            raise SessionError(
                f"this pipeline has no control weights, so it takes no {what}: load it with weights.control"
            )
        return self._path
