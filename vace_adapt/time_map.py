"""Which pixel frames belong to which latent frame, and to which chunk.

The causal video VAE of Wan2.1 encodes the first pixel frame alone and every later group of ``stride`` (4) frames
together: latent 0 is frame 0, latent k is frames ``4k-3 .. 4k`` (``1 + 4n`` frames make ``1 + n`` latents). The same
rule holds for control, masks and output, so every pixel frame belongs to exactly one latent and to exactly one chunk.

Some base models encode and decode every chunk alone, as a video of its own (Helios). There the rule begins anew with
each chunk: its first latent is one frame, and a chunk of F latents is ``4F-3`` frames, whichever chunk it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from vace_adapt.errors import InputError


@dataclass(frozen=True)
class TimeMap:
    """The time axis of one stream.

    Attributes:
        first: latent frames of chunk 0 (>= 1).
        rest: latent frames of every later chunk (>= 1).
        stride: pixel frames per latent frame after the first (4 for Wan2.1).
        restarts: whether every chunk is a video of its own to the VAE.
    """

    first: int
    rest: int
    stride: int = 4
    restarts: bool = False

    def __post_init__(self) -> None:
        for name in ("first", "rest", "stride"):
            if getattr(self, name) < 1:
                raise InputError(f"time map: {name} must be at least 1, not {getattr(self, name)}")

    def latents(self, chunk: int) -> int:
        """Latent frames of chunk number `chunk`."""
        return self.first if chunk == 0 else self.rest

    def latent_start(self, chunk: int) -> int:
        """Absolute index of the chunk's first latent frame."""
        return 0 if chunk == 0 else self.first + (chunk - 1) * self.rest

    def pixels(self, chunk: int) -> int:
        """Pixel frames of the chunk: ``stride*F - (stride-1)`` where a video begins, ``stride*F`` where one goes on."""
        return self.stride * self.latents(chunk) - (self.stride - 1 if chunk == 0 or self.restarts else 0)

    def pixel_start(self, chunk: int) -> int:
        """Absolute index of the chunk's first pixel frame."""
        if self.restarts:
            return 0 if chunk == 0 else self.pixels(0) + (chunk - 1) * self.pixels(1)
        return pixels_of(self.latent_start(chunk), self.stride)

    def chunk_of(self, frame: int) -> int:
        """Number of the chunk that holds an absolute pixel frame."""
        if self.restarts:
            return 0 if frame < self.pixels(0) else 1 + (frame - self.pixels(0)) // self.pixels(1)
        latent = latent_of(frame, self.stride)
        return 0 if latent < self.first else 1 + (latent - self.first) // self.rest

    def place(self, latent: int) -> int:
        """Which latent frame of the video that the VAE sees absolute latent frame `latent` is."""
        if not self.restarts or latent < self.first:
            return latent
        return (latent - self.first) % self.rest

    def groups(self, chunk: int) -> list[range]:
        """The pixel frames that each latent of a chunk encodes, counted from the chunk's first pixel frame."""
        return groups(self.place(self.latent_start(chunk)), self.latents(chunk), self.stride)

    def group(self, frame: int) -> range:
        """The absolute pixel frames that are encoded together with absolute pixel frame `frame`."""
        start = self.pixel_start(self.chunk_of(frame))
        own = next(group for group in self.groups(self.chunk_of(frame)) if frame - start in group)
        return range(own.start + start, own.stop + start)


def pixels_of(latents: int, stride: int = 4) -> int:
    """Pixel frames covered by the first `latents` latent frames of a stream (0 for 0)."""
    return 0 if latents == 0 else stride * latents - (stride - 1)


def latent_of(frame: int, stride: int = 4) -> int:
    """Absolute latent frame that encodes absolute pixel frame `frame`."""
    return -(-frame // stride)


def group_of(latent: int, stride: int = 4) -> range:
    """Absolute pixel frames encoded by absolute latent frame `latent`."""
    return range(pixels_of(latent, stride), pixels_of(latent + 1, stride))


def groups(latent_start: int, latents: int, stride: int = 4) -> list[range]:
    """The group of each latent, counted from the first pixel frame of latent `latent_start`.

    These are the indices into the frames of one chunk.
    """
    origin = pixels_of(latent_start, stride)
    whole = [group_of(latent_start + i, stride) for i in range(latents)]
    return [range(g.start - origin, g.stop - origin) for g in whole]
