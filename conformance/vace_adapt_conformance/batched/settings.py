"""Every number of the batched reference pipeline."""

from __future__ import annotations

from vace_adapt.contract import PipelineSettings


class BatchedSettings(PipelineSettings):
    """The ``pipeline:`` section.

    Attributes:
        denoising_steps: timesteps of a chunk, each smaller than the one before.
        shift: flow shift.
        chunk_latents: latent frames of a chunk.
        window: latent frames in the cache of a step, the sink included.
        sink: of these, the first frames, which stay.
    """

    denoising_steps: tuple[float, ...] = (1000, 700, 400)
    shift: float = 5.0
    chunk_latents: int = 1
    window: int = 4
    sink: int = 1
