"""Every number of StreamDiffusionV2's official configuration.

chenfengxu714/StreamDiffusionV2: ``configs/wan_causal_dmd_v2v.yaml`` (1.3B), ``wan_causal_dmd_v2v_14b.yaml`` (14B, the
same numbers), ``wan_causal_dmd_v2v_fast.yaml`` (a smaller memory), and what ``run_v2v.sh`` and ``streamv2v`` set beside
them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from vace_adapt.contract import Backbone, PipelineSettings

WAN_1_3B = Backbone(dim=1536, ffn_dim=8960, heads=12, layers=30)
WAN_14B = Backbone(dim=5120, ffn_dim=13824, heads=40, layers=40)

Level = Annotated[float, Field(gt=0.2, le=1)]


class StreamDiffusionSettings(PipelineSettings):
    """The ``pipeline:`` section.

    Attributes:
        denoising_steps: timesteps of a chunk (``denoising_step_list`` without its closing 0); each smaller than the one
            before. The official runs take the first 2 of [700, 500, 400, 200] for 1.3B and the first 1 for 14B
            (``--step``). Where a chunk starts from a video, the first one follows from `noise_scale` and from motion.
        warp_denoising_steps: map them to the shifted grid.
        timestep_shift: flow shift, at most 100.
        chunk_latents: latent frames of a chunk (``num_frame_per_block``); the first chunk has one more.
        slots: latent frames in the cache (``num_kv_cache``).
        sink: of these, how many are first ones that stay until they are refreshed (``num_sink_tokens``, which counts
            frames).
        sink_threshold: a sink frame whose keys and values have a cosine similarity with a new frame's below this is
            replaced (``adapt_sink_threshold``); -1 never replaces any.
        stream_batch: batch rows are chunks at different steps, each row with a memory of its own noise level
            (``streamv2v/inference.py``); otherwise the steps of a chunk run one after another on one memory
            (``inference_wo_batch.py``).
        official_quirks: what the official code does to its memory by accident, for its very results. With it: a sink
            frame that is not written yet counts as unlike the first frames, and is replaced early; rows of a stream
            batch that have no chunk yet schedule replacements; and without stream batch each chunk after the memory is
            full also overwrites the slot of the one before it, so that a memory of 6 slots holds 5 different frames.
            Without it: sink frames are compared once they are written, rows without a chunk do not run, and all steps
            of a chunk write one slot.
        position_limit: temporal position at which positions begin again behind a full memory (``t_refresh``); null
            lets them grow.
        position_refresh: what becomes of the cached keys then. ``move`` turns them to the positions they have in the
            new count, as near to the chunk as before. ``official`` leaves them where they were, in what is now the
            future.
        start: ``video`` starts from what is fed, unless it is a ready-made control; ``noise`` never does.
        noise_scale: share of noise in the start from a video, over 0.2; 1 is noise alone (``--noise_scale``).
        motion_scale: how much less noise the fastest motion gets.
        motion_full: root mean square of the change between two frames, pixels in [-1, 1], that counts as fastest.
        noise_inertia: share of the last chunk's noise scale in the next one's.
        step_offset: the first timestep is 1000 times the noise scale minus this.
        noise_step: first timestep of a chunk that starts from noise alone.
        use_ema: take the averaged weights of a base file that holds both.
        backbone: sizes of the base model.
    """

    denoising_steps: tuple[float, ...] = (700, 500)
    warp_denoising_steps: bool = False
    timestep_shift: Annotated[float, Field(gt=0, le=100)] = 8.0
    chunk_latents: Annotated[int, Field(ge=1)] = 1
    slots: Annotated[int, Field(ge=1)] = 6
    sink: Annotated[int, Field(ge=0)] = 3
    sink_threshold: Annotated[float, Field(ge=-1, le=1)] = 0.2
    stream_batch: bool = True
    official_quirks: bool = False
    position_limit: Annotated[int, Field(ge=1)] | None = 50
    position_refresh: Literal["move", "official"] = "move"
    start: Literal["video", "noise"] = "video"
    noise_scale: Level = 0.8
    motion_scale: Annotated[float, Field(ge=0, le=1)] = 0.1
    motion_full: Annotated[float, Field(gt=0)] = 0.2
    noise_inertia: Annotated[float, Field(ge=0, lt=1)] = 0.1
    step_offset: Annotated[int, Field(ge=0, lt=1000)] = 100
    noise_step: Annotated[float, Field(gt=0, le=1000)] = 1000
    use_ema: bool = False
    backbone: Backbone = WAN_1_3B

    @field_validator("denoising_steps")
    @classmethod
    def _steps_decrease(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        if not steps or any(not 0 < step <= 1000 for step in steps) or list(steps) != sorted(set(steps), reverse=True):
            raise ValueError(f"denoising_steps must decrease within (0, 1000], not {list(steps)}")
        return steps

    @model_validator(mode="after")
    def _steps_can_be_warped(self) -> StreamDiffusionSettings:
        if self.warp_denoising_steps and any(step != int(step) for step in self.denoising_steps):
            raise ValueError(f"denoising_steps to be warped must be whole, not {list(self.denoising_steps)}")
        return self

    @model_validator(mode="after")
    def _memory_fits(self) -> StreamDiffusionSettings:
        rest = self.slots - self.first_latents
        if rest < 0 or rest % self.chunk_latents:
            raise ValueError(
                f"slots {self.slots} must be the first chunk's {self.first_latents} latent frames and whole chunks of "
                f"{self.chunk_latents}"
            )
        if not ring_ends(self):
            raise ValueError(
                f"slots {self.slots} with a sink of {self.sink} leave no latent frames that make room for new ones"
            )
        return self

    @model_validator(mode="after")
    def _limits_fit(self) -> StreamDiffusionSettings:
        if self.position_limit is not None and self.position_limit <= self.slots:
            raise ValueError(f"position_limit {self.position_limit} must be over slots {self.slots}")
        lowest = 1000 * (self.noise_scale - self.motion_scale) - self.step_offset
        if lowest < 1:
            raise ValueError(
                f"noise_scale {self.noise_scale:g} minus motion_scale {self.motion_scale:g} and step_offset "
                f"{self.step_offset} leave a first timestep of {lowest:g}, it must be at least 1"
            )
        return self

    @property
    def first_latents(self) -> int:
        """Latent frames of chunk 0."""
        return 1 + self.chunk_latents


def ring_ends(settings: StreamDiffusionSettings) -> tuple[int, ...]:
    """The slots that make room for new chunks, each by the slot behind the last one of a chunk, in their first order.

    The official code schedules them while the cache fills (``models/wan/causal_model.py``): ``start + 2 * frames`` of
    every chunk, as far as it is behind the sink and within the cache. So the slots of the first chunks stay even where
    the sink is smaller.
    """
    first, frames, slots = settings.first_latents, settings.chunk_latents, settings.slots
    ends = [2 * first, *(start + 2 * frames for start in range(first, slots, frames))]
    return tuple(dict.fromkeys(end for end in ends if settings.sink < end <= slots))
