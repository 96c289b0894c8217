"""The hooks of the reference pipeline, in the order of the contract. Importing this module imports no torch."""

from __future__ import annotations

from vace_adapt.contract import (
    Backbone,
    Capability,
    ChunkShapes,
    Injection,
    NativeVideo,
    PipelineInfo,
    Support,
)
from vace_adapt.errors import CheckpointError
from vace_adapt.hookspecs import HOOK_API, hookimpl
from vace_adapt.time_map import TimeMap
from vace_adapt_conformance.reference.settings import ReferenceSettings


def _full() -> Capability:
    return Capability(support=Support.FULL)


def _cannot(reason: str) -> Capability:
    return Capability(support=Support.UNSUPPORTED, reason=reason)


INFO = PipelineInfo(
    name="reference",
    title="the conformance suite's own: sink + sliding window + memory bank, random weights",
    hook_api=HOOK_API,
    upstream="none",
    backbones={"tiny": Backbone(dim=48, ffn_dim=96, heads=2, layers=4, text_dim=32, text_len=32, freq_dim=32)},
    video=NativeVideo(height=64, width=64, rate=16),
    layouts={"native": Injection.ARGUMENTS},
    capabilities={
        "sink": _full(),
        "window": _full(),
        "bank": _full(),
        "clean_pass": _full(),
        "prompt_switch": _full(),
        "preserve_latents": _full(),
        "reference_slots": _full(),
        "reanchor": _full(),
        "packed_history": _cannot("it keeps a KV cache"),
        "relative_rope": _cannot("positions are absolute"),
        "stream_batch": _cannot("all rows of a batch are at the same step"),
        "lora": _cannot("it has random weights only"),
        "live_model": _cannot("there is no official model"),
    },
)


@hookimpl
def vace_describe():
    return INFO


@hookimpl
def vace_settings():
    return ReferenceSettings


@hookimpl
def vace_load_pipeline():
    raise CheckpointError("the reference pipeline has random weights only: name none")


@hookimpl
def vace_tiny_pipeline(settings, seed):
    from vace_adapt.embedded.tiny import tiny_wan_parts

    return tiny_wan_parts(settings, seed, draws=len(settings.denoising_steps))


@hookimpl
def vace_locate_blocks(model):
    from vace_adapt.models.causal_wan import causal_wan_blocks

    return causal_wan_blocks(model)


@hookimpl
def vace_wrap_attention(attend):
    return attend


@hookimpl
def vace_chunk_shapes(parts, height, width):
    latents = parts.settings.chunk_latents
    return ChunkShapes.of(parts.backbone, TimeMap(latents, latents, parts.backbone.stride[0]), height, width)


@hookimpl
def vace_cache_ops(parts, shapes, batch, references):
    from vace_adapt_conformance.reference.memory import Memory

    return Memory(parts, shapes, batch, references)


@hookimpl
def vace_stream(parts, stream):
    from vace_adapt_conformance.reference.loop import run_stream

    return run_stream(parts, stream)
