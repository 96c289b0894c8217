"""Every number of the two official configurations: diffusers' HeliosPipeline and lllyasviel/FramePack."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from vace_adapt.contract import Backbone, PipelineSettings

WAN_14B = Backbone(dim=5120, ffn_dim=13824, heads=40, layers=40)
"""Wan2.1-T2V-14B, on which Helios stands."""

HUNYUAN = Backbone(dim=3072, ffn_dim=12288, heads=24, layers=60, text_dim=4096, text_len=512)
"""HunyuanVideo FramePack: 20 dual and 40 single blocks."""

DUAL_BLOCKS = 20
"""Of the 60 blocks of HunyuanVideo FramePack, those with a text stream of their own."""

TOY_STEPS = 2
"""Denoise steps of toy-size random weights, where no number is asked for."""

STUDENT_STEPS, STUDENT_GUIDANCE = 12, 3.0
"""Denoise steps and guidance of the embedded student, where none are asked for."""


class FramePackSettings(PipelineSettings):
    """The ``pipeline:`` section.

    Attributes:
        backend: ``wan``: Wan2.1 with packed history (Helios), takes VACE weights. ``hunyuan``: FramePack as released on
            HunyuanVideo, takes no VACE weights.
        chunk_latents: latent frames of a section.
        history: latent frames at 4x, 2x and 1x, besides the start frame.
        steps: denoise steps of a section; None for the official number (50 and 25; 2 for toy-size random weights, 12
            for the embedded student).
        guidance: scale of classifier-free guidance, 1 for none; None for the official one (5 and 1; 3 for the embedded
            student).
        negative_prompt: of that guidance.
        solver: of ``wan``.
        dynamic_shift: of ``wan``: whether the noise levels are shifted by the number of tokens.
        time_shift: form of that shift.
        packing: of ``wan``: ``trained`` reads the packing convolutions of a Helios checkpoint. ``pooled`` makes them of
            the patch embedding, as the average over 2 and 4 frames, rows and columns; experimental: no such model was
            trained.
        sampling: of ``hunyuan``: ``f1`` makes a video from its start, ``inverted`` from its end.
        sections: of ``inverted``: how many a video has.
        distilled_guidance: of ``hunyuan``: the guidance that its model takes as an input.
        start_image: of ``hunyuan``: file of the picture that a video starts with; None for gray.
        end_image: of ``inverted``: file of the picture that a video ends with.
        keyframes: of ``inverted``: files of pictures by section in time; each stands where the end image stands, behind
            its section.
        strength: of ``hunyuan``: below 1 a section starts from the video that is fed for it, noised to this level.
        context_scale: of ``hunyuan``: scale of the hints of its own context blocks.
        image_encoder: of ``hunyuan``: folder or hub id of SigLIP, which sees the start image.
        storage: ``float8``: most weights of the base model lie in float8_e4m3fn and are cast for their own pass alone
            (diffusers' layerwise casting); lossy, a byte a weight.
        offload: the base model and the text encoders lie in main memory; of the base model a ``block`` or a ``leaf``
            at a time goes to the accelerator for its own pass (diffusers' group offloading).
        backbone: sizes of the base model.
    """

    backend: Literal["wan", "hunyuan"] = "wan"
    chunk_latents: Annotated[int, Field(ge=1)] = 9
    history: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Literal[1]] = (16, 2, 1)
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance: Annotated[float, Field(ge=1)] | None = None
    negative_prompt: str = ""
    solver: Literal["unipc", "euler"] = "unipc"
    dynamic_shift: bool = False
    time_shift: Literal["exponential", "linear"] = "exponential"
    packing: Literal["trained", "pooled"] = "trained"
    sampling: Literal["f1", "inverted"] = "f1"
    sections: Annotated[int, Field(ge=1)] = 4
    distilled_guidance: Annotated[float, Field(gt=0)] = 10.0
    start_image: str | None = None
    end_image: str | None = None
    keyframes: dict[Annotated[int, Field(ge=0)], str] = Field(default_factory=dict)
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0
    context_scale: Annotated[float, Field(ge=0, le=100)] = 1.0
    image_encoder: str | None = None
    storage: Literal["float8"] | None = None
    offload: Literal["block", "leaf"] | None = None
    backbone: Backbone | None = None

    @field_validator("history")
    @classmethod
    def _scales_are_whole(cls, history: tuple[int, int, int]) -> tuple[int, int, int]:
        if history[0] % 4 or history[1] % 2:
            raise ValueError(f"history {list(history)}: 4x needs a multiple of 4 latent frames, 2x one of 2")
        return history

    @model_validator(mode="after")
    def _of_its_backend(self) -> FramePackSettings:
        if self.backend == "wan" and (self.start_image or self.end_image or self.keyframes):
            raise ValueError("start_image, end_image and keyframes are of backend hunyuan: give VACE keyframes instead")
        if self.sampling == "f1" and (self.end_image or self.keyframes):
            raise ValueError("end_image and keyframes need sampling inverted: f1 never sees what is behind a section")
        late = [section for section in self.keyframes if section >= self.sections]
        if late:
            raise ValueError(f"keyframes: there is no section {late[0]}, a video has {self.sections}")
        return self

    @property
    def sizes(self) -> Backbone:
        """Of the base model."""
        return self.backbone or (WAN_14B if self.backend == "wan" else HUNYUAN)

    @property
    def guidance_scale(self) -> float:
        """Of classifier-free guidance."""
        return self.guidance or (5.0 if self.backend == "wan" else 1.0)

    def denoise_steps(self, *, toy: bool) -> int:
        """Of a section.

        Args:
            toy: whether the weights are random and of toy size.
        """
        return self.steps or (TOY_STEPS if toy else 50 if self.backend == "wan" else 25)
