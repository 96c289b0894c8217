"""The video that was fed, for a base that starts from it (`vace_adapt.contract.SourceVideo`)."""

from __future__ import annotations

import torch
from einops import reduce
from torch import Tensor

from vace_adapt.contract import ChunkShapes, SourceVideo
from vace_adapt.streaming.engine import Engine


class SourceVideos:
    """A stream's own video, encoded chunk by chunk.

    Args:
        engine: what runs the stream.
        shapes: of the stream.
        batch: its rows.
    """

    def __init__(self, engine: Engine, shapes: ChunkShapes, batch: int) -> None:
        self._engine = engine
        self._shapes = shapes
        size = (batch, shapes.pixel_height, shapes.pixel_width)
        self._stream = engine.codec.encoder(size, restarts=shapes.time.restarts)
        self._last: Tensor | None = None

    def __call__(self, chunk: int, pixels: Tensor | None) -> SourceVideo | None:
        """What was fed for a chunk, encoded. Chunks come in order, each once.

        Args:
            chunk: its number.
            pixels: [B, 3, T, H, W] in [-1, 1]; None where nothing was fed: the video so far is forgotten.
        """
        if pixels is None:
            self._stream.skip(self._shapes.time.latents(chunk))
            self._last = None
            return None
        engine = self._engine
        latents = self._stream.encode(pixels)
        latents = engine.codec.normalise(latents) if engine.parts.normalised_input else latents
        moving = pixels if self._last is None else torch.cat([self._last, pixels], dim=2)
        self._last = pixels[:, :, -1:].clone()
        return SourceVideo(latents.to(engine.device, engine.dtype), _motion(moving))


def _motion(pixels: Tensor) -> tuple[float, ...]:
    """See `SourceVideo.motion`; 0 for a single frame."""
    if pixels.shape[2] < 2:
        return (0.0,) * pixels.shape[0]
    changes = reduce(pixels.diff(dim=2).square(), "b c t h w -> b t", "mean").sqrt()
    return tuple(changes.amax(dim=1).tolist())
