"""Chunk sizes and stream memory. Shapes: B batch, C latent channels, F latent frames, h and w latent size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from vace_adapt.contract.declaration import Backbone
from vace_adapt.errors import InputError
from vace_adapt.time_map import TimeMap

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ChunkShapes:
    """Sizes of one stream's chunks.

    Attributes:
        time: latent and pixel frames of every chunk.
        channels: latent channels.
        height, width: latent height and width.
        patch: latent frames, rows, columns of a token.
        stride: pixel frames, rows, columns of a latent position.
        max_latents: latent frames a stream can have in all; None where it has no end.
    """

    time: TimeMap
    channels: int
    height: int
    width: int
    patch: tuple[int, int, int]
    stride: tuple[int, int, int]
    max_latents: int | None = None

    @classmethod
    def of(
        cls, backbone: Backbone, time: TimeMap, height: int, width: int, max_latents: int | None = None
    ) -> ChunkShapes:
        """Shapes of a stream of `height` x `width` pixels.

        Raises:
            InputError: a side is not a positive multiple of VAE stride times patch (16 pixels for Wan2.1).
        """
        for name, side, unit in (("height", height, backbone.unit[0]), ("width", width, backbone.unit[1])):
            if side < unit or side % unit:
                low = max(unit, side // unit * unit)
                raise InputError(
                    f"{name} {side} is not a positive multiple of {unit}: nearest are {low} and {low + unit}"
                )
        h, w = height // backbone.stride[1], width // backbone.stride[2]
        return cls(time, backbone.latent_channels, h, w, backbone.patch, backbone.stride, max_latents)

    @property
    def pixel_height(self) -> int:
        return self.height * self.stride[1]

    @property
    def pixel_width(self) -> int:
        return self.width * self.stride[2]

    @property
    def grid(self) -> tuple[int, int]:
        """Token rows and columns of one latent frame."""
        return self.height // self.patch[1], self.width // self.patch[2]

    @property
    def frame_tokens(self) -> int:
        rows, columns = self.grid
        return rows * columns

    @property
    def most_pixels(self) -> int | None:
        """Pixel frames of the whole chunks that fit into `max_latents`; None where there is no end."""
        if self.max_latents is None:
            return None
        later = max(0, self.max_latents - self.time.first) // self.time.rest
        return self.time.pixel_start(1 + later) if self.max_latents >= self.time.first else 0

    def latent_shape(self, batch: int, chunk: int) -> tuple[int, int, int, int, int]:
        """[B, C, F, h, w] of a chunk."""
        return batch, self.channels, self.time.latents(chunk), self.height, self.width


@dataclass(frozen=True)
class CacheLayout:
    """What kind of memory a stream has, in latent frames.

    Attributes:
        kind: ``ring`` (sink + window), ``ring+bank``, ``packed`` or ``foreign`` (owned by a live official model).
        slots: latent frames it can hold in all; never grows.
        sink: of these, how many stay for good.
        bank: of these, how many are selected memories: keys and values that clean passes made of old frames. Passes
            read them, and none rewrites them.
        references: slots reserved for references, besides `slots`; they hold no latent frame of the video.
        refreshed: whether a sink frame gives its slot up to a new frame that it does not resemble. The sink's slots
            then come first in `CacheOps.positions`, and change in no other way.
    """

    kind: str
    slots: int
    sink: int
    bank: int = 0
    references: int = 0
    refreshed: bool = False


@dataclass(frozen=True)
class ReferenceRoom:
    """What a stream's memory reserves for references in the base's self-attention (capability ``reference_slots``).

    Attributes:
        slots: references that fit, each of one latent frame.
        passes: passes of a chunk that see them: the denoise steps 0, 1, ..., then, where it does, the clean pass.
    """

    slots: int
    passes: int


@runtime_checkable
class CacheOps(Protocol):
    """The memory of one stream: made when it opens, used by the plugin's loop, inspected by core.

    Nothing in it grows with the length of the stream, and nothing in it is shared between streams.
    """

    layout: CacheLayout

    def tensors(self) -> Mapping[str, Tensor]:
        """Every tensor of the memory by name; the same objects for the whole stream. Names of a bank's begin with
        ``bank``.
        """
        ...

    def positions(self, row: int = 0) -> Sequence[int]:
        """Absolute latent frame held by each slot of a batch row; -1 for an unused slot.

        The slots of a bank come last; where each layer chooses what its own keeps, they are those of the first. Rows
        differ in their banks, and in their sinks where `Chunk.reanchor` named some of them and not others. May read
        back from the device.
        """
        ...

    def snapshot(self) -> Any:
        """A copy of the whole state."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Put a `snapshot` back, bit for bit, into the same tensors."""
        ...

    def reset(self) -> None:
        """Back to the state of a fresh stream, in the same tensors."""
        ...
