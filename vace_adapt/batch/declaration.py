"""What ``pipeline=batch_vace`` is and is not. Importing this does not import torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vace_adapt.contract import (
    CAPABILITIES,
    WAN_1_3B,
    Capability,
    Injection,
    NativeVideo,
    PipelineInfo,
    PipelineSettings,
    Support,
)
from vace_adapt.hookspecs import HOOK_API

BATCH_VACE = "batch_vace"

WHY_NOT = {
    "sink": "there is no cache: every frame sees every other one",
    "window": "there is no cache: every frame sees every other one",
    "bank": "there is no cache: every frame sees every other one",
    "packed_history": "nothing comes before the clip",
    "clean_pass": "no cache is written",
    "prompt_switch": "one prompt holds for the whole clip",
    "relative_rope": "positions are those of the clip",
    "stream_batch": "there is one chunk, the clip",
    "preserve_latents": "what the mask keeps is kept by the control latents alone, as published",
    "reference_slots": "references are frames of the latents and seen by every block as they are",
    "reanchor": "there is no memory that could drift",
    "lora": "no LoRA is shipped with VACE",
    "live_model": "the model is diffusers' own class",
}
"""Why it has none of what streams have."""

INFO = PipelineInfo(
    name=BATCH_VACE,
    title="batch VACE: diffusers' WanVACETransformer3DModel over the whole clip; not a streaming pipeline",
    hook_api=HOOK_API,
    upstream="huggingface/diffusers@v0.40",
    backbones={"1.3B": WAN_1_3B},
    video=NativeVideo(height=480, width=832, rate=16),
    layouts={"diffusers": Injection.ARGUMENTS},
    capabilities={
        name: Capability(support=Support.UNSUPPORTED, reason=WHY_NOT.get(name, "it does not stream"))
        for name in CAPABILITIES
    },
)


class BatchVaceSettings(PipelineSettings):
    """The ``pipeline:`` section; the defaults are those of ali-vilab/VACE vace/vace_wan_inference.py.

    Attributes:
        steps: denoise steps.
        shift: flow shift.
        guidance: of the prompt over the empty one (classifier-free guidance); 1 runs without, at half the cost.
        negative_prompt: in the empty one's place.
        text_len: tokens of a prompt.
    """

    steps: Annotated[int, Field(ge=1, le=1000)] = 50
    shift: Annotated[float, Field(gt=0, le=100)] = 16.0
    guidance: Annotated[float, Field(ge=1, le=100)] = 5.0
    negative_prompt: str = ""
    text_len: Annotated[int, Field(ge=1)] = 512
