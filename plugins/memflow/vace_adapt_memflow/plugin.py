"""How MemFlow differs, hook by hook. Importing this module imports no torch."""

from __future__ import annotations

from pathlib import Path

from vace_adapt.contract import (
    WAN_1_3B,
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
from vace_adapt_memflow.settings import MemFlowSettings

STUDENT = Path(__file__).parent / "weights" / "student.safetensors"
"""A student of the embedded family's base, trained in this pipeline's window."""

_FULL = Capability(support=Support.FULL)

INFO = PipelineInfo(
    name="memflow",
    title="MemFlow: Wan2.1 1.3B, chunks of 3 latent frames, sink + sliding window + memory bank",
    hook_api=HOOK_API,
    upstream="KlingTeam/MemFlow@7ed514771f5add2af7cc60889e8310ce2b70ab1e",
    backbones={"1.3B": WAN_1_3B},
    video=NativeVideo(height=480, width=832, rate=16),
    layouts={"native": Injection.ARGUMENTS, "official": Injection.HOOKS},
    capabilities={
        "sink": _FULL,
        "window": _FULL,
        "bank": _FULL,
        "clean_pass": _FULL,
        "prompt_switch": _FULL,
        "preserve_latents": _FULL,
        "reanchor": _FULL,
        "reference_slots": _FULL,
        "lora": _FULL,
        "live_model": _FULL,
        "relative_rope": Capability(
            support=Support.UNSUPPORTED, reason="frames in the bank keep the absolute position they were made at"
        ),
        "packed_history": Capability(support=Support.UNSUPPORTED, reason="MemFlow keeps a KV cache"),
        "stream_batch": Capability(support=Support.UNSUPPORTED, reason="all rows of a batch are at the same step"),
    },
    exceptions={
        "official": {
            "reference_slots": Capability(
                support=Support.UNSUPPORTED, reason="the official attention reads its own memory and nothing beside it"
            ),
            "reanchor": Capability(
                support=Support.UNSUPPORTED, reason="the official attention reads as many memories in every row"
            ),
        },
    },
    golden_formats=("memflow",),
)


@hookimpl
def vace_describe():
    return INFO


@hookimpl
def vace_settings():
    return MemFlowSettings


@hookimpl
def vace_load_pipeline(settings, weights, device, dtype, model, layout):
    from vace_adapt_memflow.loading import load_parts

    return load_parts(settings, weights, device, dtype, model, layout)


@hookimpl
def vace_tiny_pipeline(settings, seed):
    from vace_adapt.embedded.tiny import tiny_wan_parts

    return tiny_wan_parts(settings, seed, draws=len(settings.denoising_steps))


@hookimpl
def vace_embedded_base(settings):
    return EmbeddedBase(str(STUDENT), settings.model_copy(update={"backbone": FAMILY}))


@hookimpl
def vace_locate_blocks(model, layout):
    if layout == "official":
        from vace_adapt_memflow.official import official_blocks

        return official_blocks(model)
    from vace_adapt.models.causal_wan import causal_wan_blocks

    return causal_wan_blocks(model)


@hookimpl
def vace_wrap_attention(attend):
    return attend


@hookimpl
def vace_chunk_shapes(parts, height, width):
    latents = parts.settings.chunk_latents
    time = TimeMap(latents, latents, parts.backbone.stride[0])
    return ChunkShapes.of(
        parts.backbone, time, height, width, max_latents=parts.settings.slots if parts.settings.window == -1 else None
    )


@hookimpl
def vace_cache_ops(parts, shapes, batch, references):
    if parts.layout == "official":
        from vace_adapt_memflow.official_cache import OfficialCache

        return OfficialCache.open(parts, shapes, batch)
    from vace_adapt_memflow.cache import MemFlowCache

    return MemFlowCache.open(parts, shapes, batch, references)


@hookimpl
def vace_stream(parts, stream):
    from vace_adapt_memflow.loop import run_stream

    return run_stream(parts, stream)


@hookimpl
def vace_replay(path):
    from vace_adapt_memflow.replay import replay

    return replay(path)
