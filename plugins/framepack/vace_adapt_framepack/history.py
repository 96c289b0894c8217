"""What a FramePack stream remembers: clean latents, not keys and values. They are embedded anew at every step.

It is the same 1 + 19 latent frames for the whole stream, whatever its length, its references and its controls. Hints
never reach it but through what was made with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vace_adapt.contract import CacheLayout, ChunkShapes, PipelineParts
from vace_adapt_framepack.plan import HISTORY


class Packed(NamedTuple):
    """The clean latents that a section sees, each [B, C, n, h, w].

    Attributes:
        clean: the start frame and the nearest one.
        mid: at 2x.
        far: at 4x.
    """

    clean: Tensor
    mid: Tensor
    far: Tensor


class PackedHistory:
    """`CacheOps` of a stream.

    Args:
        shape: [B, C, F, h, w] of a chunk; F does not matter.
        sizes: latent frames at 4x, 2x and 1x.
        inverted: whether the video is made from its end: the nearest frame is then the first of the history, and new
            frames are put in front of it.
        dtype, device: of the latents.

    Attributes:
        end: latent frames that were pushed.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int, int],
        sizes: tuple[int, int, int] = HISTORY,
        *,
        inverted: bool = False,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        batch, channels, _, height, width = shape
        self.sizes = sizes
        self.layout = CacheLayout(kind="packed", slots=1 + sum(sizes), sink=1)
        self.end = 0
        self._inverted = inverted
        self._start = torch.zeros((batch, channels, 1, height, width), dtype=dtype, device=device)
        self._frames = torch.zeros((batch, channels, sum(sizes), height, width), dtype=dtype, device=device)

    @classmethod
    def open(cls, parts: PipelineParts, shapes: ChunkShapes, batch: int) -> PackedHistory:
        """Allocate the memory of one stream."""
        shape, sizes = shapes.latent_shape(batch, 0), parts.settings.history
        inverted = parts.settings.backend == "hunyuan" and parts.settings.sampling == "inverted"
        return cls(shape, sizes, inverted=inverted, dtype=parts.dtype, device=parts.device)

    def begin(self, start: Tensor | None = None) -> None:
        """Nothing was made so far: zero latents everywhere, which the model sees like any others.

        Args:
            start: [B, C, 1, h, w]: the start frame, where it is known; else the first frame pushed becomes it.
        """
        self._frames.zero_()
        self._start.zero_()
        if start is not None:
            self._start.copy_(start)

    def pack(self) -> Packed:
        """What the next section sees. `mid` and `far` are views."""
        far, mid, near = self.sizes
        if self._inverted:
            nearest, middle, farthest = self._frames.split([near, mid, far], dim=2)
        else:
            farthest, middle, nearest = self._frames.split([far, mid, near], dim=2)
        return Packed(torch.cat([self._start, nearest], dim=2), middle, farthest)

    def keep_start(self, frame: Tensor) -> None:
        """Let a frame [B, C, 1, h, w] be the start frame from now on."""
        self._start.copy_(frame)

    def push(self, latents: Tensor) -> None:
        """Take finished frames [B, C, n, h, w]; as many of the others go at the far end."""
        room, count = self._frames.shape[2], latents.shape[2]
        self.end += count
        if self._inverted:
            joined = torch.cat([latents.to(self._frames), self._frames], dim=2)[:, :, :room]
        else:
            joined = torch.cat([self._frames, latents.to(self._frames)], dim=2)[:, :, -room:]
        self._frames.copy_(joined)

    # --- asked by core ------------------------------------------------------------------------------------------------

    def tensors(self) -> Mapping[str, Tensor]:
        return {"start": self._start, "history": self._frames}

    def positions(self, row: int = 0) -> Sequence[int]:
        """The start frame's slot first; it is unused while the history still holds that frame itself.

        Frames of an inverted video are numbered in the order of making.
        """
        room = self._frames.shape[2]
        held = [*range(max(0, self.end - room), self.end)]
        return (0 if held and held[0] > 0 else -1, *(-1,) * (room - len(held)), *held)

    def snapshot(self) -> Any:
        return self._start.clone(), self._frames.clone(), self.end

    def restore(self, snapshot: Any) -> None:
        start, frames, self.end = snapshot
        self._start.copy_(start)
        self._frames.copy_(frames)

    def reset(self) -> None:
        self._start.zero_()
        self._frames.zero_()
        self.end = 0
