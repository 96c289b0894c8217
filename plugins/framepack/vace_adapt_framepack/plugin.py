"""How FramePack differs, hook by hook. Importing this module imports no torch."""

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
from vace_adapt_framepack.settings import HUNYUAN, STUDENT_GUIDANCE, STUDENT_STEPS, WAN_14B, FramePackSettings

STUDENT = Path(__file__).parent / "weights" / "student.safetensors"
"""A student of the embedded family's base, trained beside this pipeline's packed history."""

_FULL = Capability(support=Support.FULL)


def _never(reason: str) -> Capability:
    return Capability(support=Support.UNSUPPORTED, reason=reason)


INFO = PipelineInfo(
    name="framepack",
    title="FramePack: packed history on Wan2.1 14B (Helios) or HunyuanVideo, sections of 9 latent frames",
    hook_api=HOOK_API,
    upstream="lllyasviel/FramePack@97fe5dbe06ac1f337ece08935b1076a35eefeeb9; huggingface/diffusers@0.42.1",
    backbones={"14B": WAN_14B, "1.3B": WAN_1_3B, "hunyuan": HUNYUAN},
    video=NativeVideo(height=384, width=640, rate=24),
    layouts={"helios": Injection.HOOKS, "hunyuan": Injection.HOOKS, "hunyuan_official": Injection.HOOKS},
    capabilities={
        "sink": _FULL,
        "window": _FULL,
        "packed_history": _FULL,
        "prompt_switch": _FULL,
        "preserve_latents": _FULL,
        "live_model": _FULL,
        "bank": _never("the history is a fixed window of latents, nothing in it is selected"),
        "clean_pass": _never("the history holds latents, which every pass embeds anew: there are no keys to write"),
        "relative_rope": _never("every section has the same frame indices, counted from its own history"),
        "stream_batch": _never("a section needs the finished one before it"),
        "reference_slots": _never("there is no cache of keys and values that slots could be in"),
        "reanchor": _never("there is no cache to rebuild: the history is the latents themselves"),
        "lora": _never("Helios' LoRA is part of its released weights, FramePack has none"),
    },
    golden_formats=("helios_wan", "framepack_hunyuan"),
)


@hookimpl
def vace_describe():
    return INFO


@hookimpl
def vace_settings():
    return FramePackSettings


@hookimpl
def vace_load_pipeline(settings, weights, device, dtype, model, layout):
    if settings.backend == "hunyuan":
        from vace_adapt_framepack.hunyuan.loading import load_parts as load_hunyuan

        return load_hunyuan(settings, weights, device, dtype, model, layout)
    from vace_adapt_framepack.wan.loading import load_parts as load_wan

    return load_wan(settings, weights, device, dtype, model, layout)


@hookimpl
def vace_tiny_pipeline(settings, seed):
    if settings.backend == "hunyuan":
        from vace_adapt_framepack.hunyuan.tiny import tiny_parts as tiny_hunyuan

        return tiny_hunyuan(settings, seed)
    from vace_adapt_framepack.wan.tiny import tiny_parts as tiny_wan

    return tiny_wan(settings, seed)


@hookimpl
def vace_embedded_base(settings):
    if settings.backend == "hunyuan" or settings.packing == "pooled":
        return None
    numbers = {"steps": settings.steps or STUDENT_STEPS, "guidance": settings.guidance or STUDENT_GUIDANCE}
    return EmbeddedBase(str(STUDENT), settings.model_copy(update={**numbers, "backbone": FAMILY}))


@hookimpl
def vace_locate_blocks(model, layout):
    if layout == "helios":
        from vace_adapt_framepack.wan.model import helios_blocks

        return helios_blocks(model)
    from vace_adapt_framepack.hunyuan.model import hunyuan_blocks

    return hunyuan_blocks(model)


@hookimpl
def vace_wrap_attention(attend):
    return attend


@hookimpl
def vace_chunk_shapes(parts, height, width):
    settings, stride = parts.settings, parts.backbone.stride[0]
    latents = settings.chunk_latents
    if settings.backend == "wan":
        return ChunkShapes.of(parts.backbone, TimeMap(latents, latents, stride, restarts=True), height, width)
    most = 1 + latents * settings.sections if settings.sampling == "inverted" else None
    return ChunkShapes.of(parts.backbone, TimeMap(1 + latents, latents, stride), height, width, max_latents=most)


@hookimpl
def vace_cache_ops(parts, shapes, batch):
    from vace_adapt_framepack.history import PackedHistory

    return PackedHistory.open(parts, shapes, batch)


@hookimpl
def vace_stream(parts, stream):
    if parts.settings.backend == "hunyuan":
        from vace_adapt_framepack.hunyuan.loop import run_stream
    else:
        from vace_adapt_framepack.wan.loop import run_stream

    return run_stream(parts, stream)


@hookimpl
def vace_replay(path):
    from vace_adapt_framepack.replay import replay

    return replay(path)
