"""How far a stream has wandered from how it began: statistics of its finished latents, never of its pictures.

A causal model feeds on what it made, so small errors of colour and contrast add up over many chunks. Both show in the
channels of the latents: their mean and their standard deviation over a chunk. What moves, and where, does not.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SMALLEST_STD = 1e-3
"""Standard deviations below it count as this, so that a channel that is constant has no endless drift. Normalised
latents have deviations around 1."""


class Statistics(NamedTuple):
    """Mean and standard deviation of every channel, each float32 [B, C, 1, 1, 1]."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, latents: Tensor) -> Statistics:
        """Over all frames and positions of latents [B, C, F, h, w], F >= 1; not Bessel-corrected."""
        std, mean = torch.std_mean(latents.float(), dim=(2, 3, 4), correction=0, keepdim=True)
        return cls(mean, std.clamp(min=SMALLEST_STD))

    def onto(self, latents: Tensor, target: Statistics) -> Tensor:
        """Latents [B, C, F, h, w] that have these statistics, given those of `target`: one scale and one shift for each
        row and channel, so that the frames keep their relation to each other. In the latents' dtype.
        """
        return ((latents.float() - self.mean) * (target.std / self.std) + target.mean).to(latents.dtype)


class Drift:
    """The drift of one stream from its first chunk.

    For each batch row the largest over the channels of ::

        |mean - mean0| / std0 + |log(std / std0)|

    with mean and std over all latent frames and positions of the chunk, and mean0 and std0 those of chunk 0. So 0 is no
    drift, and 0.5 is a channel whose mean has moved by half of its first deviation (a shift of colour), or whose
    deviation has grown by the factor exp(0.5) = 1.65 or shrunk by it (a change of contrast), or a part of each. A cut
    or another scene moves it as well: it cannot tell them from an error.

    Attributes:
        first: statistics of chunk 0; None before it.
    """

    def __init__(self) -> None:
        self.first: Statistics | None = None

    def __call__(self, latents: Tensor) -> tuple[float, ...]:
        """The drift of a chunk's finished latents [B, C, F, h, w], one for each row; chunks come in order.

        It reads the result back from the device, once.
        """
        own = Statistics.of(latents)
        if self.first is None:
            self.first = own
        moved = (own.mean - self.first.mean).abs() / self.first.std + (own.std / self.first.std).log().abs()
        return tuple(moved.amax(dim=(1, 2, 3, 4)).tolist())
