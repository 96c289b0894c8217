"""The newest clean latents of a stream, kept so that the KV cache can be rebuilt."""

from __future__ import annotations

import torch
from torch import Tensor


class RecentLatents:
    """A ring of the last `slots` latent frames.

    Args:
        slots: frames kept.
        shape: [B, C, F, h, w] of a chunk; F does not matter.
        dtype, device: of the latents.
    """

    def __init__(self, slots: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        batch, channels, _, height, width = shape
        self.slots = slots
        self.latents = torch.zeros((batch, channels, slots, height, width), dtype=dtype, device=device)
        self.end = 0

    def push(self, latents: Tensor) -> None:
        """Add a finished chunk [B, C, F, h, w]; of one longer than the ring its last frames stay."""
        self.end += latents.shape[2]
        kept = latents[:, :, -self.slots :]
        frames = kept.shape[2]
        self.latents.index_copy_(2, self._places(self.end - frames, frames), kept)

    def replace(self, row: int, latents: Tensor) -> int:
        """Put latents [1, C, n, h, w] in place of the n newest frames of a batch row; absolute index of the first."""
        frames = latents.shape[2]
        start = self.end - frames
        self.latents[row : row + 1].index_copy_(2, self._places(start, frames), latents)
        return start

    def newest(self) -> tuple[int, Tensor]:
        """Absolute index of the oldest frame kept, and all frames kept [B, C, n, h, w] in order of time."""
        frames = min(self.slots, self.end)
        start = self.end - frames
        return start, self.latents.index_select(2, self._places(start, frames))

    def _places(self, start: int, frames: int) -> Tensor:
        places = [(start + i) % self.slots for i in range(frames)]
        return torch.tensor(places, dtype=torch.int64).to(self.latents.device)
