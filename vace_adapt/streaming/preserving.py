"""What is kept stays kept: in the finished latents, and in the decoded frames (``controls.preserve``)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import reduce
from torch import Tensor

from vace_adapt.composition.composer import Composed
from vace_adapt.composition.seam import paste
from vace_adapt.conditioning.pixels import tensor_to_frames
from vace_adapt.contract import ChunkShapes
from vace_adapt.streaming.engine import Engine


@dataclass(frozen=True)
class Kept:
    """What is kept of a chunk's latents.

    Attributes:
        latents: the source's, [B, C, F, h, w], as the base makes them.
        where: bool [B, 1, F, h, w].
    """

    latents: Tensor
    where: Tensor

    def into(self, latents: Tensor) -> Tensor:
        """Latents [B, C, F, h, w] with the kept ones in place."""
        return torch.where(self.where, self.latents.to(latents.dtype), latents)


class SourceLatents:
    """The source video as latents, for ``preserve: latent``; a video stream of its own.

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

    def __call__(self, chunk: int, composed: Composed | None) -> Kept | None:
        """What is kept of a chunk; None where nothing is. Chunks come in order, each once.

        The source is encoded whole, so that a latent beside the seam is the video's own; what lies under the mask is
        dropped with the latents there. A latent is kept where all pixels it stands for are.
        """
        if composed is None or composed.source is None or composed.mask is None:
            self.skip(chunk)
            return None
        encoded = self._stream.encode(composed.source)
        where = self._kept_latents(chunk, composed.mask)
        if not where.any():
            return None
        source = self._engine.codec.normalise(encoded).to(self._engine.device, self._engine.dtype)
        return Kept(source, where.to(self._engine.device))

    def skip(self, chunk: int) -> None:
        """Nothing is kept of a chunk: forget the video so far."""
        self._stream.skip(self._shapes.time.latents(chunk))

    def _kept_latents(self, chunk: int, mask: Tensor) -> Tensor:
        time, (_, rows, columns) = self._shapes.time, self._shapes.stride
        highest = reduce(mask, "b 1 t (h p) (w q) -> b 1 t h w", "max", p=rows, q=columns)
        kept = [highest[:, :, group.start : group.stop].amax(dim=2) for group in time.groups(chunk)]
        return torch.stack(kept, dim=2) <= 0.5


def keep_pixels(frames: Tensor, composed: Composed, seam: int) -> Tensor:
    """Decoded frames with the kept pixels of the source in place, for ``preserve: pixel``.

    Args:
        frames: uint8 [B, T, H, W, 3].
        composed: what the chunk was made from.
        seam: see `vace_adapt.composition.seam.paste`.

    Returns:
        uint8 [B, T, H, W, 3]; equal to the source, bit for bit, where the mask is at most a half. Frames that a
        keyframe merely fills stay as they were made, so that the video does not stand still around it.
    """
    source, mask = composed.pixels or (composed.source, composed.mask)
    if source is None or mask is None:
        return frames
    kept_frames = tensor_to_frames(source)
    generate = ((mask[:, 0] > 0.5) * 255).to("cpu", torch.uint8)
    rows = [
        torch.from_numpy(paste(made.numpy(), kept.numpy(), own.numpy(), seam))
        for made, kept, own in zip(frames, kept_frames, generate, strict=True)
    ]
    return torch.stack(rows)
