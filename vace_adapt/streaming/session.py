"""One stream: its inputs, its memory, its chunks.

Inputs declare their life. The prompt, the references and the scale hold until they are changed; control frames and
masks belong to the chunk they were fed for and expire with it. Whatever is fed or changed takes effect at the next
chunk, never inside one. Everything is checked where it is given, before anything changes; a refused call leaves the
stream as it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from vace_adapt.conditioning.pixels import Frames, tensor_to_frames
from vace_adapt.conditioning.vae import DecoderStream
from vace_adapt.contract import ChunkReport, HintSource
from vace_adapt.controls import ControlSettings, HintScale
from vace_adapt.errors import InputError, SessionError
from vace_adapt.streaming.chunk import SessionChunk, StreamedChunk
from vace_adapt.streaming.control_path import ControlPath
from vace_adapt.streaming.engine import Engine
from vace_adapt.streaming.memory import peak_bytes
from vace_adapt.streaming.queue import Control, ControlQueue
from vace_adapt.streaming.reader import InputReader, Prompt, References, scale_of


@dataclass
class _Pending:
    """Changes that wait for the next chunk; None means no change. References are wrapped: (None,) takes them away."""

    prompt: Prompt | None = None
    references: tuple[Tensor | None] | None = None
    scale: HintScale | None = None


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
        self._reader = InputReader(engine, self.shapes, self.batch, controls)
        self._path = ControlPath.open(engine, self.shapes, controls, self.seeds)
        self._pending = _Pending(prompt=self._reader.prompt(prompt))
        images = self._reader.references(references)
        if images is not None:
            self._need_control("references")
            self._pending.references = (images,)
        self.cache = engine.hooks.cache_ops(engine.parts, self.shapes, self.batch)
        self._queue = ControlQueue()
        self._decoder = DecoderStream(engine.codec)
        self._decode_state: list[object] = []
        self._index = 0
        self._made = 0
        self._prompt: Prompt | None = None
        self._staged: SessionChunk | None = None
        self._closed: str | None = None
        self._latents = engine.hooks.stream(engine.parts, self)

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
        self._queue.add(*self._reader.control(control, mask), last=last)

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
        changed = _Pending(**vars(self._pending))
        if prompt is not None:
            if self._index > 0:
                self.engine.hooks.require("prompt_switch")
            changed.prompt = self._reader.prompt(prompt)
        if references is not None:
            self._need_control("references")
            changed.references = (self._reader.references(references),)
        if scale is not None:
            changed.scale = scale_of(scale)
            self._need_control("scale").check_scale(changed.scale)
        self._pending = changed

    def close(self) -> None:
        """End the stream and let its memory go. Doing it twice does no harm."""
        if self._closed is None:
            self._end("is closed")

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
        self._check_open()
        left = self._frames_left()
        if left == 0:
            raise StopIteration
        begin = time.perf_counter()
        control = self._take_control()
        try:
            with torch.no_grad():
                chunk, controlled = self._begin(control)
                latents, frames = self._make(chunk)
        except BaseException as error:
            self._end(f"failed at chunk {self._index} ({type(error).__name__}: {error})")
            raise
        kept = frames.shape[1] if left is None else min(frames.shape[1], left)
        kept = kept if control is None else min(kept, control.real)
        self._index += 1
        self._made += kept
        report = self._report(chunk, kept, time.perf_counter() - begin, controlled)
        self.engine.hooks.chunk_done(report)
        return StreamedChunk(frames[:, :kept], latents, report)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- what the plugin's loop sees (`contract.Stream`) --------------------------------------------------------------

    def chunks(self) -> Iterator[SessionChunk]:
        """The chunks as they are staged; ends when the stream is closed."""
        while self._staged is not None:
            chunk, self._staged = self._staged, None
            yield chunk

    def injecting(self, hints: HintSource | None) -> AbstractContextManager[None]:
        """Run the base model with these hints; for models that take them by hooks."""
        attachment = self.engine.attachment
        return nullcontext() if attachment is None else attachment.running(hints)

    # --- one chunk ----------------------------------------------------------------------------------------------------

    def _take_control(self) -> Control | None:
        """Check everything about the next chunk, then take its control. Nothing has changed if this raises."""
        needed = self.shapes.time.pixels(self._index)
        self._queue.check(needed, self._index)
        if self._path is not None:
            count = self._path.references
            if self._pending.references is not None:
                (images,) = self._pending.references
                count = 0 if images is None else images.shape[2]
            self._path.check(control=self._queue.frames > 0, references=count, chunk=self._index)
        return self._queue.take(needed)

    def _begin(self, control: Control | None) -> tuple[SessionChunk, bool]:
        """Apply pending changes and make the chunk; also whether the context path will run."""
        changes, self._pending = self._pending, _Pending()
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

    def _make(self, chunk: SessionChunk) -> tuple[Tensor, Tensor]:
        """Run the plugin's loop for one chunk; its latents and its frames [B, T, H, W, 3]."""
        name, shapes = self.engine.hooks.name, self.shapes
        self._staged = chunk
        latents = next(self._latents, None)
        if latents is None:
            raise SessionError(f"the loop of pipeline {name!r} ended before chunk {chunk.index}")
        if latents.shape != shapes.latent_shape(self.batch, chunk.index):
            expected = list(shapes.latent_shape(self.batch, chunk.index))
            raise SessionError(f"pipeline {name!r} made latents {list(latents.shape)}, expected {expected}")
        frames = tensor_to_frames(self._decode(latents, chunk.index))
        if frames.shape[1] != shapes.time.pixels(chunk.index):
            expected_frames = shapes.time.pixels(chunk.index)
            raise SessionError(f"chunk {chunk.index} decoded to {frames.shape[1]} frames, expected {expected_frames}")
        return latents, frames

    def _decode(self, latents: Tensor, index: int) -> Tensor:
        """The plugin's decode, or the pipeline's VAE: float [B, 3, T, H, W] in [-1, 1]."""
        engine = self.engine
        pixels = engine.hooks.decode(engine.parts, latents, index == 0, self._decode_state)
        if pixels is not None:
            return pixels
        return self._decoder.decode(engine.codec.denormalise(latents))

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
        if self._queue.ended and self._queue.frames == 0:
            return 0
        return None if self.num_frames is None else self.num_frames - self._made

    def _check_open(self) -> None:
        if self._closed is not None:
            raise SessionError(f"this stream {self._closed}")

    def _end(self, why: str) -> None:
        """No more chunks; everything large is let go."""
        self._closed = why
        self._latents.close()
        self._path = self._staged = None
        del self.cache, self._decoder, self._decode_state
        self._queue.clear()

    def _need_control(self, what: str) -> ControlPath:
        if self._path is None:
            raise SessionError(
                f"this pipeline has no control weights, so it takes no {what}: load it with weights.control"
            )
        return self._path
