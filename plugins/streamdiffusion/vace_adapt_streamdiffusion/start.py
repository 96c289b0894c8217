"""What a chunk starts from: noise, or the video that was fed under some noise, the less of it the more it moves.

In own words after chenfengxu714/StreamDiffusionV2 streamv2v/inference.py (``compute_noise_scale_and_step``).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vace_adapt.contract import Chunk
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings


class Start(NamedTuple):
    """A chunk before its first step.

    Attributes:
        latents: [B, C, F, h, w], noisy.
        timesteps: of the first step, one for each batch row.
    """

    latents: Tensor
    timesteps: tuple[float, ...]


class Starts:
    """The starts of one stream, chunk by chunk and in order.

    Args:
        settings: of the pipeline.
        first: timestep of the first denoise step.
        batch: rows of the stream.
    """

    def __init__(self, settings: StreamDiffusionSettings, first: float, batch: int) -> None:
        self._settings = settings
        self._first = first
        self._scales = [settings.noise_scale] * batch

    def __call__(self, chunk: Chunk) -> Start:
        """The start of a chunk."""
        settings, noise = self._settings, chunk.noise(0)
        video = chunk.video if settings.start == "video" else None
        if video is None:
            return Start(noise, (settings.noise_step,) * len(self._scales))
        if chunk.index == 0:
            return Start(mixed(noise, video.latents, self._scales), (self._first,) * len(self._scales))
        self._scales = [
            next_scale(settings, scale, motion) for scale, motion in zip(self._scales, video.motion, strict=True)
        ]
        steps = tuple(float(int(1000 * scale) - settings.step_offset) for scale in self._scales)
        return Start(mixed(noise, video.latents, self._scales), steps)


def next_scale(settings: StreamDiffusionSettings, last: float, motion: float) -> float:
    """Share of noise in a chunk of so much motion (`vace_adapt.contract.SourceVideo`), after one with `last`."""
    moving = min(max(motion / settings.motion_full, 0.0), 1.0)
    wanted = settings.noise_scale - settings.motion_scale * moving
    return wanted * (1 - settings.noise_inertia) + last * settings.noise_inertia


def mixed(noise: Tensor, video: Tensor, scales: list[float]) -> Tensor:
    """``scale * noise + (1 - scale) * video``, by batch row."""
    if len(set(scales)) == 1:
        return noise * scales[0] + video * (1 - scales[0])
    share = torch.tensor(scales, dtype=noise.dtype).to(noise.device).view(-1, 1, 1, 1, 1)
    return noise * share + video * (1 - share)
