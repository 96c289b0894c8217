"""Pulling a long stream back: when the memory of the base model is rebuilt, and from which latents.

Rebuilding means that the cache is written anew in one clean pass over the newest latent frames it holds, the first of
which are then the sink (`vace_adapt.contract.Chunk.reanchor`). What the sources put into that pass:

- ``sink``: the newest frames as they were made. The sink lets its old content go and keeps the oldest of them, so a
  stream whose scene has changed is no longer held by its first frames. This is LongLive's own recache without
  ``global_sink``; StreamDiffusionV2 refreshes its sink for the same reason. It does not undo drift.
- ``keyframe``: the same, with the newest keyframe the stream has reached in the sink's place, encoded as the start of a
  video in which nothing moves, since the start of a video is what a sink holds. The frames after it stay, so that the
  motion goes on; a cache of nothing but the picture would be a cut.
- ``first``: the stream's own first frames in the sink's place, and the others, all together, with the mean and the
  standard deviation of each channel set to those of the first chunk, so that they have no drift any more
  (`vace_adapt.streaming.drift`). What wanders in a long stream are just these statistics, and most of the cache is the
  newest frames, so a clean sink alone would leave the model to go on from frames that have drifted. One scale and one
  shift for each row and channel leave content and motion as they are.

In each case the frames stand at the positions of the newest ones, without a gap, as in a stream whose window has not
slid yet. That is one rule for absolute and for relative positions, and a model object of the official repository can
follow it. Frames that were handed out are never changed, so colours that are pulled back may step at the boundary.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor

from vace_adapt.cache.recent import RecentLatents
from vace_adapt.composition.anchors import Anchored
from vace_adapt.conditioning.vae import VaeCodec
from vace_adapt.contract import CacheLayout, ChunkShapes
from vace_adapt.controls import Reanchor
from vace_adapt.errors import InputError
from vace_adapt.streaming.drift import Statistics
from vace_adapt.streaming.engine import Engine


class Reanchoring:
    """Decides for one stream, by what it has made.

    Args:
        settings: see `vace_adapt.controls.Reanchor`.
        engine: what runs the stream.
        shapes: of the stream.
        batch: its rows B.
        layout: of its memory.

    Raises:
        InputError: the memory has no sink.
    """

    def __init__(
        self, settings: Reanchor, engine: Engine, shapes: ChunkShapes, batch: int, layout: CacheLayout
    ) -> None:
        check_memory(layout)
        self._settings = settings
        self._time = shapes.time
        self._codec = engine.codec
        shape = shapes.latent_shape(batch, 0)
        self._newest = RecentLatents(layout.slots - layout.bank, shape, engine.dtype, engine.device)
        self._first = RecentLatents(layout.sink, shape, engine.dtype, engine.device)
        self._began: Statistics | None = None
        self._drift = (0.0,) * batch
        self._picture: Tensor | None = None

    def check(self, chunk: int, anchored: Anchored | None) -> None:
        """Refuse a chunk that is to be re-anchored on a keyframe, where the stream has reached none.

        Args:
            chunk: its number.
            anchored: its own keyframes; they count.

        Raises:
            InputError: with the chunk and its last frame. Nothing has changed.
        """
        if self._settings.source != "keyframe" or not self._due(chunk):
            return
        if self._picture is None and _newest_whole(anchored) is None:
            last = self._time.pixel_start(chunk + 1) - 1
            raise InputError(
                f"chunk {chunk} is to be re-anchored on a keyframe, and up to its last frame, {last}, there is none "
                "that is kept whole: give one, e.g. stream.keyframe(picture, chunks=1)"
            )

    def waits(self, chunk: int) -> bool:
        """Whether what is rebuilt before a chunk, if anything, depends on chunks before it that must be finished."""
        return self._settings.above is not None or bool(self._due(chunk))

    def before(self, chunk: int, anchored: Anchored | None) -> dict[int, Tensor]:
        """What the memory is rebuilt from before a chunk with these keyframes, by row: [1, C, n, h, w] each."""
        if self._settings.source == "keyframe" and (landing := _newest_whole(anchored)) is not None:
            self._picture = landing
        rows = self._due(chunk)
        if not rows:
            return {}
        _, newest = self._newest.newest()
        return {row: self._rebuilt(row, newest[row : row + 1]) for row in rows}

    def after(self, latents: Tensor, drift: tuple[float, ...]) -> None:
        """Take note of a finished chunk [B, C, F, h, w] and of its drift by row."""
        if self._began is None:
            self._began = Statistics.of(latents)
        room = self._first.slots - self._first.end
        if room > 0:
            self._first.push(latents[:, :, :room])
        self._newest.push(latents)
        self._drift = drift

    def tensors(self) -> dict[str, Tensor]:
        """Every buffer, by name."""
        return {"newest": self._newest.latents, "first": self._first.latents}

    def _due(self, chunk: int) -> tuple[int, ...]:
        """The rows whose memory is rebuilt before a chunk."""
        every, above = self._settings.every, self._settings.above
        if chunk == 0:
            return ()
        if every is not None and chunk % every == 0:
            return tuple(range(len(self._drift)))
        return () if above is None else tuple(row for row, drift in enumerate(self._drift) if drift > above)

    def _rebuilt(self, row: int, newest: Tensor) -> Tensor:
        """[1, C, n, h, w] of a row, from its newest n frames as they were made."""
        sink = min(self._first.slots, newest.shape[2])
        rest = newest[:, :, sink:]
        if self._settings.source == "keyframe":
            assert self._picture is not None
            still = still_latents(self._codec, self._picture[row : row + 1], sink)
            return torch.cat([still.to(newest.device, newest.dtype), rest], dim=2)
        if self._settings.source == "first":
            assert self._began is not None
            own = slice(row, row + 1)
            began = Statistics(self._began.mean[own], self._began.std[own])
            matched = Statistics.of(rest).onto(rest, began) if rest.shape[2] else rest
            return torch.cat([self._first.latents[own, :, :sink], matched], dim=2)
        return newest


def check_memory(layout: CacheLayout) -> None:
    """Refuse a memory that cannot be re-anchored.

    Raises:
        InputError: it has no sink.
    """
    if layout.sink == 0:
        raise InputError(
            f"controls.reanchor rebuilds the sink, and the memory of {layout.slots} latent frames has none"
        )


def still_latents(codec: VaeCodec, picture: Tensor, count: int) -> Tensor:
    """A picture as the start of a video in which nothing moves.

    Args:
        codec: the VAE.
        picture: float32 [B, 3, H, W] in [-1, 1].
        count: latent frames; they are encoded from ``1 + 4(count-1)`` pixel frames.

    Returns:
        Normalised, float32 [B, C, count, h, w].
    """
    picture = picture.to(codec.device, codec.dtype)
    state = codec.new_encoder_state()
    frames = [1] + [codec.stride[0]] * (count - 1)
    groups = [codec.encode_group(repeat(picture, "b c h w -> b c t h w", t=t), state) for t in frames]
    return codec.normalise(codec.posterior_mean(torch.cat(groups, dim=2)))


def _newest_whole(anchored: Anchored | None) -> Tensor | None:
    """The last picture of a chunk of which every row keeps every pixel: float32 [B, 3, H, W] in [-1, 1]; or None."""
    if anchored is None:
        return None
    whole = anchored.at & ~anchored.filled & (anchored.mask <= 0.5).all(dim=3).all(dim=2).all(dim=0)
    if not whole.any():
        return None
    newest = int(whole.nonzero()[-1])
    return rearrange(anchored.frames[:, newest], "b h w c -> b c h w") * 2 - 1
