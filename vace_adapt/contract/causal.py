"""Settings that causal few-step relatives of Self-Forcing share: LongLive, MemFlow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from vace_adapt.contract.declaration import Backbone, Frozen, PipelineSettings

WAN_1_3B = Backbone(dim=1536, ffn_dim=8960, heads=12, layers=30)
"""Wan2.1-T2V-1.3B."""


class LoraSettings(Frozen):
    """A LoRA that the base's authors ship (``adapter:`` in their files)."""

    rank: Annotated[int, Field(ge=1)] = 256
    alpha: Annotated[float, Field(gt=0)] = 256.0


class CausalSettings(PipelineSettings):
    """Few denoise steps per chunk, a cache of a sink and a sliding window, a clean pass.

    The defaults are those of NVlabs/LongLive v1.0 configs/longlive_inference.yaml, which KlingTeam/MemFlow took over.

    Attributes:
        denoising_steps: timesteps of a chunk, before warping; each smaller than the one before.
        warp_denoising_steps: map them to the shifted grid ([1000, 750, 500, 250] become [1000, 937.5, 833.3, 625]).
        timestep_shift: flow shift, at most 100.
        chunk_latents: latent frames of a chunk (``num_frame_per_block``).
        window: latent frames in the cache, the sink included (``local_attn_size``); -1 keeps all of `max_latents`.
        sink: of these, the first frames, which stay.
        max_latents: size of the cache where `window` is -1.
        global_sink: keep the sink through a prompt switch.
        context_noise: timestep of clean passes and recaches.
        use_ema: take the averaged weights of a base file that holds both.
        lora: of the shipped adapter.
        backbone: sizes of the base model.
    """

    denoising_steps: tuple[float, ...] = (1000, 750, 500, 250)
    warp_denoising_steps: bool = True
    timestep_shift: Annotated[float, Field(gt=0, le=100)] = 5.0
    chunk_latents: Annotated[int, Field(ge=1)] = 3
    window: int = 12
    sink: Annotated[int, Field(ge=0)] = 3
    max_latents: Annotated[int, Field(ge=1)] = 120
    global_sink: bool = True
    context_noise: Annotated[float, Field(ge=0, lt=1000)] = 0
    use_ema: bool = False
    lora: LoraSettings = LoraSettings()
    backbone: Backbone = WAN_1_3B

    @field_validator("denoising_steps")
    @classmethod
    def _steps_decrease(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        if not steps or any(not 0 < step <= 1000 for step in steps) or list(steps) != sorted(set(steps), reverse=True):
            raise ValueError(f"denoising_steps must decrease within (0, 1000], not {list(steps)}")
        return steps

    @model_validator(mode="after")
    def _steps_can_be_warped(self) -> CausalSettings:
        if self.warp_denoising_steps and any(step != int(step) for step in self.denoising_steps):
            raise ValueError(f"denoising_steps to be warped must be whole, not {list(self.denoising_steps)}")
        return self

    @model_validator(mode="after")
    def _window_fits(self) -> CausalSettings:
        if self.window == -1:
            return self
        room = self.window - self.sink
        if room < self.chunk_latents:
            raise ValueError(
                f"window {self.window} minus sink {self.sink} leaves {room} latent frames, "
                f"a chunk has {self.chunk_latents}"
            )
        return self

    @property
    def slots(self) -> int:
        """Latent frames of sink and window."""
        return self.max_latents if self.window == -1 else self.window
