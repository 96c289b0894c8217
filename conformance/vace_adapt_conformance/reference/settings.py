"""Every number of the reference pipeline."""

from __future__ import annotations

from vace_adapt.contract import PipelineSettings


class ReferenceSettings(PipelineSettings):
    """The ``pipeline:`` section.

    Attributes:
        denoising_steps: timesteps of a chunk, each smaller than the one before.
        shift: flow shift.
        chunk_latents: latent frames of a chunk.
        window: latent frames in the cache, the sink included.
        sink: of these, the first frames, which stay.
        bank: latent frames that the memory bank keeps besides.
        context_noise: timestep of clean passes and recaches.
    """

    denoising_steps: tuple[float, ...] = (1000, 500)
    shift: float = 5.0
    chunk_latents: int = 2
    window: int = 6
    sink: int = 2
    bank: int = 2
    context_noise: float = 0
