"""One stream: its inputs, its memory, its chunks.

Inputs declare their life. The prompt, the references and the scale hold until they are changed; control frames and
masks belong to the chunk they were fed for and expire with it. Whatever is fed or changed takes effect at the next
chunk, never inside one. Everything is checked where it is given, before anything changes; a refused call leaves the
stream as it was.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vace_adapt.conditioning.pixels import Frames, frames_to_tensor, mask_to_tensor, tensor_to_frames
from vace_adapt.conditioning.references import ReferenceImage, references_to_tensor
from vace_adapt.conditioning.vae import DecoderStream
from vace_adapt.contract import ChunkReport, HintSource
from vace_adapt.controls import ControlSettings, HintScale
from vace_adapt.errors import InputError, SessionError
from vace_adapt.streaming.control_path import ControlPath
from vace_adapt.streaming.noise import draw
from vace_adapt.streaming.queue import Control, ControlQueue

if TYPE_CHECKING:
    from vace_adapt.streaming.pipeline import Pipeline

References = Sequence[ReferenceImage] | Sequence[Sequence[ReferenceImage]]


@dataclass(frozen=True)
class StreamedChunk:
    """What a stream yields.

    Attributes:
        frames: uint8 [B, T, H, W, 3] on the CPU.
        latents: [B, C, F, h, w] finished latents in the base's normalisation, on its device.
        report: sizes, time and memory.
    """

    frames: Tensor
    latents: Tensor
    report: ChunkReport


@dataclass
class _Pending:
    """Changes that wait for the next chunk; None means no change. References are wrapped: (None,) takes them away."""

    prompt: Tensor | None = None
    references: tuple[Tensor | None] | None = None
    scale: HintScale | None = None


class Session:
    """State of one stream, and the iterator over its chunks. Made by `Pipeline.stream`; a context manager.

    Args:
        pipeline: what runs it.
        prompts: one for each batch row.
        seeds: one for each batch row.
        height, width: pixels.
        references: images that hold from the start.
        num_frames: pixel frames to make; None goes on until the control ends or the stream is closed.
        controls: options of the control.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        prompts: Sequence[str],
        seeds: Sequence[int],
        height: int,
        width: int,
        references: References,
        num_frames: int | None,
        controls: ControlSettings,
    ) -> None:
        if num_frames is not None and num_frames < 1:
            raise InputError(f"num_frames must be at least 1, not {num_frames}")
        self.pipeline = pipeline
        self.batch = len(seeds)
        self.seeds = tuple(seeds)
        self.shapes = pipeline.hooks.chunk_shapes(pipeline.parts, height, width)
        self.controls = controls
        self.num_frames = num_frames
        self._path = self._open_control_path()
        self._pending = _Pending()
        if len(references):
            self._pending.references = (self._prepare_references(references),)
        self.cache = pipeline.hooks.cache_ops(pipeline.parts, self.shapes, self.batch)
        self._queue = ControlQueue()
        self._decoder = DecoderStream(pipeline.codec)
        self._decode_state: list[object] = []
        self._index = 0
        self._made = 0
        self._text = self._encode_prompts(prompts)
        self._new_prompt = True
        self._staged: SessionChunk | None = None
        self._closed: str | None = None
        self._latents = pipeline.hooks.stream(pipeline.parts, self)

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
        self._control_path("control frames")
        rows = self.batch, self.shapes.pixel_height, self.shapes.pixel_width
        frames = frames_to_tensor(control, "control", *rows)
        packed = None if mask is None else mask_to_tensor(mask, frames.shape[2], *rows)
        self._queue.add(frames, packed, last=last)

    def update(
        self,
        *,
        prompt: str | Sequence[str] | None = None,
        references: References | None = None,
        scale: float | HintScale | None = None,
    ) -> None:
        """Change what holds until changed. Takes effect at the next chunk; what is not named stays.

        Args:
            prompt: one for all rows, or one for each.
            references: the new references; an empty list takes them away.
            scale: a number for control and references alike, or a `HintScale`.

        Raises:
            InputError: not usable; nothing was changed.
            SessionError: the stream is closed, or the pipeline has no control weights.
        """
        self._check_open()
        text = None if prompt is None else self._encode_prompts(rows_of(prompt, self.batch))
        images = None if references is None else (self._prepare_references(references),)
        factors = None if scale is None else self._prepare_scale(scale)
        pending = self._pending
        self._pending = _Pending(
            pending.prompt if text is None else text,
            pending.references if images is None else images,
            pending.scale if factors is None else factors,
        )

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
        with torch.no_grad():
            control = self._take_control()
            chunk, controlled = self._begin(control)
            latents, frames = self._make(chunk)
        kept = frames.shape[1] if left is None else min(frames.shape[1], left)
        kept = kept if control is None else min(kept, control.real)
        self._index += 1
        self._made += kept
        report = self._report(chunk, kept, time.perf_counter() - begin, controlled)
        self.pipeline.hooks.chunk_done(report)
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
        attachment = self.pipeline.attachment
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
        """Apply pending changes and stage the chunk for the plugin's loop."""
        pending, self._pending = self._pending, _Pending()
        if pending.prompt is not None:
            self._text, self._new_prompt = pending.prompt, True
        controlled = False
        if self._path is not None:
            if self._new_prompt:
                self._path.set_prompt()
            if pending.references is not None:
                self._path.set_references(*pending.references)
            if pending.scale is not None:
                self._path.set_scale(pending.scale)
            controlled = self._path.set_chunk(self._index, control)
        chunk = SessionChunk(self, self._index, self._text, self._new_prompt, self._path if controlled else None)
        self._new_prompt = False
        return chunk, controlled

    def _make(self, chunk: SessionChunk) -> tuple[Tensor, Tensor]:
        """Run the plugin's loop for one chunk; its latents and its frames [B, T, H, W, 3]."""
        hooks, parts = self.pipeline.hooks, self.pipeline.parts
        self._staged = chunk
        try:
            latents = next(self._latents, None)
            if latents is None:
                raise SessionError(f"the loop of pipeline {hooks.name!r} ended before chunk {chunk.index}")
            pixels = hooks.decode(parts, latents, chunk.index == 0, self._decode_state)
            if pixels is None:
                raw = self.pipeline.codec.denormalise(latents) if parts.normalised else latents
                pixels = self._decoder.decode(raw)
            frames = tensor_to_frames(pixels)
        except BaseException as error:
            self._end(f"failed at chunk {chunk.index} ({type(error).__name__}: {error})")
            raise
        expected = self.shapes.time.pixels(chunk.index)
        if frames.shape[1] != expected:
            self._end(f"failed at chunk {chunk.index}")
            raise SessionError(f"chunk {chunk.index} decoded to {frames.shape[1]} frames, expected {expected}")
        return latents, frames

    def _report(self, chunk: SessionChunk, pixels: int, seconds: float, controlled: bool) -> ChunkReport:
        held = [*self.cache.tensors().values(), *([] if self._path is None else self._path.tensors().values())]
        device = self.pipeline.device
        cuda = device.type == "cuda"
        return ChunkReport(
            index=chunk.index,
            latent_start=chunk.start,
            latents=chunk.frames,
            pixels=pixels,
            seconds=seconds,
            controlled=controlled,
            references=0 if self._path is None else self._path.references,
            cache_bytes=sum(tensor.numel() * tensor.element_size() for tensor in held),
            peak_memory_bytes=torch.cuda.max_memory_allocated(device) if cuda else _peak_resident_bytes(),
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
        self._closed = why
        self._latents.close()

    def _control_path(self, what: str) -> ControlPath:
        if self._path is None:
            raise SessionError(
                f"this pipeline has no control weights, so it takes no {what}: load it with weights.control"
            )
        return self._path

    def _prepare_references(self, references: References) -> Tensor | None:
        self._control_path("references")
        if len(references) == 0:
            return None
        rows = self.batch, self.shapes.pixel_height, self.shapes.pixel_width
        images = references_to_tensor(references, self.controls.reference_fit, *rows)
        most = self.controls.max_references
        if images.shape[2] > most:
            raise InputError(
                f"{images.shape[2]} references are given, at most {most} are allowed (controls.max_references)"
            )
        return images

    def _prepare_scale(self, scale: float | HintScale) -> HintScale:
        factors = scale_of(scale)
        self._control_path("scale").check_scale(factors)
        return factors

    # --- opening ------------------------------------------------------------------------------------------------------

    def _open_control_path(self) -> ControlPath | None:
        pipeline = self.pipeline
        if pipeline.context is None:
            return None
        return ControlPath(
            pipeline.context,
            pipeline.patch_embedding,
            pipeline.codec,
            self.shapes,
            self.controls,
            self.seeds,
            normalised=pipeline.parts.normalised,
            dtype=pipeline.dtype,
        )

    def _encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return self.pipeline.parts.text_encoder(prompts).to(self.pipeline.device, self.pipeline.dtype)


class SessionChunk:
    """A chunk as the plugin's loop sees it (`contract.Chunk`)."""

    def __init__(self, session: Session, index: int, text: Tensor, new_prompt: bool, path: ControlPath | None) -> None:
        time_map = session.shapes.time
        self.index = index
        self.start = time_map.latent_start(index)
        self.frames = time_map.latents(index)
        self.text = text
        self.prompt_changed = new_prompt
        self._path = path
        self._kv_with_hints = session.controls.kv_policy == "with_hints"
        self._draws = session.pipeline.parts.draws
        shape = session.shapes.latent_shape(session.batch, index)[1:]
        noise = [draw(session.seeds, "chunk", index * self._draws + i, shape) for i in range(self._draws)]
        self._noise = torch.stack(noise).to(session.pipeline.device, session.pipeline.dtype)

    def noise(self, draw: int) -> Tensor:
        if draw >= self._draws:
            raise SessionError(
                f"noise draw {draw} of chunk {self.index} was not declared: parts.draws is {self._draws}"
            )
        return self._noise[draw]

    def denoising(self, step: int, sigma: float) -> HintSource | None:
        return None if self._path is None else self._path.source(step, sigma)

    def clean_pass(self, sigma: float) -> HintSource | None:
        return self.denoising(self._draws, sigma) if self._kv_with_hints else None

    def recaching(self) -> HintSource | None:
        return None


def rows_of(prompt: str | Sequence[str], batch: int) -> list[str]:
    """One prompt for each batch row."""
    prompts = [prompt] * batch if isinstance(prompt, str) else list(prompt)
    if len(prompts) != batch:
        raise InputError(f"{len(prompts)} prompts are given, the stream has {batch} batch rows")
    return prompts


def scale_of(scale: float | HintScale) -> HintScale:
    """A number as the scale of control and references alike."""
    if isinstance(scale, HintScale):
        return scale
    try:
        return HintScale(control=scale, references=scale)
    except ValueError:
        raise InputError(f"scale must be a finite number >= 0, not {scale}") from None


def _peak_resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
