"""The plugin's loop over one stream, run one chunk at a time: latents out of it, frames out of those."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from vace_adapt.conditioning.pixels import tensor_to_frames
from vace_adapt.contract import ChunkShapes, HintSource, ReferenceRoom
from vace_adapt.errors import SessionError
from vace_adapt.streaming.chunk import SessionChunk
from vace_adapt.streaming.engine import Engine


class Loop:
    """What the plugin gets as its `vace_adapt.contract.Stream`, with the memory that belongs to it.

    Args:
        engine: what runs it.
        shapes: of the stream.
        batch: its rows.
        references: what its memory reserves for references; None for nothing.
    """

    def __init__(
        self, engine: Engine, shapes: ChunkShapes, batch: int, references: ReferenceRoom | None = None
    ) -> None:
        self.shapes = shapes
        self.batch = batch
        self.cache = engine.hooks.cache_ops(engine.parts, shapes, batch, references)
        self._engine = engine
        self._decoder = engine.codec.decoder()
        self._decode_state: list[object] = []
        self._staged: deque[SessionChunk] = deque()
        self._latents = engine.hooks.stream(engine.parts, self)

    # --- what the plugin sees -----------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Chunks that are staged and not handed out."""
        return len(self._staged)

    def chunks(self) -> Iterator[SessionChunk]:
        """The chunks as they are staged; ends when the stream is closed."""
        while self._staged:
            yield self._staged.popleft()

    def injecting(self, hints: HintSource | None) -> AbstractContextManager[None]:
        """Run the base model with these hints; for models that take them by hooks."""
        attachment = self._engine.attachment
        if attachment is not None:
            return attachment.running(hints)
        if hints is not None:
            raise SessionError("the pipeline was detached from the model while this stream was controlling it")
        return nullcontext()

    # --- what the session asks ----------------------------------------------------------------------------------------

    def stage(self, chunk: SessionChunk) -> None:
        """Let the plugin's loop begin a chunk."""
        self._staged.append(chunk)

    def finish(self, chunk: SessionChunk) -> tuple[Tensor, Tensor]:
        """The oldest staged chunk's latents [B, C, F, h, w] and its frames, uint8 [B, T, H, W, 3].

        Raises:
            SessionError: the loop ended, or made something of another shape or not finite.
        """
        name = self._engine.hooks.name
        latents = next(self._latents, None)
        if latents is None:
            raise SessionError(f"the loop of pipeline {name!r} ended before chunk {chunk.index}")
        if latents.shape != self.shapes.latent_shape(self.batch, chunk.index):
            expected = list(self.shapes.latent_shape(self.batch, chunk.index))
            raise SessionError(f"pipeline {name!r} made latents {list(latents.shape)}, expected {expected}")
        if not torch.isfinite(latents).all():
            dtype = str(latents.dtype).removeprefix("torch.")
            raise SessionError(
                f"chunk {chunk.index} has values that are not finite: weights, scale or settings overflow {dtype}"
            )
        frames = tensor_to_frames(self._decode(latents, chunk.index))
        if frames.shape[1] != self.shapes.time.pixels(chunk.index):
            expected_frames = self.shapes.time.pixels(chunk.index)
            raise SessionError(f"chunk {chunk.index} decoded to {frames.shape[1]} frames, expected {expected_frames}")
        return latents, frames

    def close(self) -> None:
        """End the plugin's loop and let the memory go."""
        self._latents.close()
        self._staged.clear()
        del self.cache, self._decoder, self._decode_state

    def _decode(self, latents: Tensor, index: int) -> Tensor:
        """The plugin's decode, or the pipeline's VAE: float [B, 3, T, H, W] in [-1, 1]."""
        engine = self._engine
        pixels = engine.hooks.decode(engine.parts, latents, index == 0, self._decode_state)
        if pixels is not None:
            return pixels
        if self.shapes.time.restarts:
            self._decoder = engine.codec.decoder()
        return self._decoder.decode(engine.codec.denormalise(latents))
