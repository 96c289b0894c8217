"""How StreamDiffusionV2 differs, hook by hook. Importing this module imports no torch."""

from __future__ import annotations

from pathlib import Path

from vace_adapt.contract import (
    Capability,
    ChunkShapes,
    EmbeddedBase,
    Injection,
    NativeVideo,
    PipelineInfo,
    Support,
)
from vace_adapt.embedded.family import FAMILY
from vace_adapt.hookspecs import HOOK_API, hookimpl
from vace_adapt.time_map import TimeMap
from vace_adapt_streamdiffusion.settings import WAN_1_3B, WAN_14B, StreamDiffusionSettings

OFFICIAL_POSITIONS = 1024
"""Rows of the official table of rotations: a stream of the official model whose positions only grow ends there."""

STUDENT = Path(__file__).parent / "weights" / "student.safetensors"
"""A student of the embedded family's base, trained in this pipeline's window."""

_FULL = Capability(support=Support.FULL)


def _cannot(reason: str) -> Capability:
    return Capability(support=Support.UNSUPPORTED, reason=reason)


INFO = PipelineInfo(
    name="streamdiffusion",
    title="StreamDiffusionV2: Wan2.1 1.3B or 14B, video to video, chunks of 1 latent frame, stream batch",
    hook_api=HOOK_API,
    upstream="chenfengxu714/StreamDiffusionV2@c5a0f20d4320787b1031fa0e32802a60f9cdd2a6",
    backbones={"1.3B": WAN_1_3B, "14B": WAN_14B},
    video=NativeVideo(height=480, width=832, rate=16),
    layouts={"native": Injection.ARGUMENTS, "official": Injection.HOOKS},
    capabilities={
        "sink": _FULL,
        "window": _FULL,
        "prompt_switch": _FULL,
        "stream_batch": _FULL,
        "preserve_latents": _FULL,
        "bank": _cannot("StreamDiffusionV2 has no memory bank (MemFlow has)"),
        "packed_history": _cannot("StreamDiffusionV2 keeps a KV cache"),
        "clean_pass": _cannot("the memory is what the denoise steps leave: there is no pass over finished latents"),
        "relative_rope": _cannot("keys are cached with their positions, which begin again in long streams"),
        "lora": _cannot("StreamDiffusionV2 comes without a LoRA"),
        "reanchor": _FULL,
        "reference_slots": _FULL,
        "live_model": _FULL,
    },
    exceptions={
        "official": {
            "reference_slots": _cannot("the official attention reads its own cache and nothing beside it"),
        },
    },
    golden_formats=("streamdiffusion",),
)


@hookimpl
def vace_describe():
    return INFO


@hookimpl
def vace_settings():
    return StreamDiffusionSettings


@hookimpl
def vace_load_pipeline(settings, weights, device, dtype, model, layout):
    from vace_adapt_streamdiffusion.loading import load_parts

    return load_parts(settings, weights, device, dtype, model, layout)


@hookimpl
def vace_tiny_pipeline(settings, seed):
    from vace_adapt_streamdiffusion.tiny import tiny_parts

    return tiny_parts(settings, seed)


@hookimpl
def vace_embedded_base(settings):
    return EmbeddedBase(str(STUDENT), settings.model_copy(update={"backbone": FAMILY}))


@hookimpl
def vace_locate_blocks(model, layout):
    if layout == "official":
        from vace_adapt_streamdiffusion.official import official_blocks

        return official_blocks(model)
    from vace_adapt.models.causal_wan import causal_wan_blocks

    return causal_wan_blocks(model)


@hookimpl
def vace_wrap_attention(attend):
    return attend


@hookimpl
def vace_chunk_shapes(parts, height, width):
    settings = parts.settings
    time = TimeMap(settings.first_latents, settings.chunk_latents, parts.backbone.stride[0])
    ends = parts.layout == "official" and settings.position_limit is None
    return ChunkShapes.of(parts.backbone, time, height, width, OFFICIAL_POSITIONS if ends else None)


@hookimpl
def vace_cache_ops(parts, shapes, batch, references):
    if parts.layout == "official":
        from vace_adapt_streamdiffusion.official_cache import OfficialCache

        return OfficialCache.open(parts, shapes, batch)
    from vace_adapt_streamdiffusion.cache import StreamDiffusionCache

    return StreamDiffusionCache.open(parts, shapes, batch, references)


@hookimpl
def vace_stream(parts, stream):
    from vace_adapt_streamdiffusion.loop import run_stream

    return run_stream(parts, stream)


@hookimpl
def vace_replay(path):
    from vace_adapt_streamdiffusion.replay import replay

    return replay(path)
