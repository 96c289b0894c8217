"""The hooks of the batched reference pipeline. Importing this module imports no torch."""

from __future__ import annotations

import dataclasses

from vace_adapt.contract import Backbone, Capability, ChunkShapes, Injection, NativeVideo, PipelineInfo, Support
from vace_adapt.errors import CheckpointError
from vace_adapt.hookspecs import HOOK_API, hookimpl
from vace_adapt.time_map import TimeMap
from vace_adapt_conformance.batched.settings import BatchedSettings


def _full() -> Capability:
    return Capability(support=Support.FULL)


def _cannot(reason: str) -> Capability:
    return Capability(support=Support.UNSUPPORTED, reason=reason)


INFO = PipelineInfo(
    name="batched",
    title="the conformance suite's own with a stream batch: a memory for each denoise step, random weights",
    hook_api=HOOK_API,
    upstream="none",
    backbones={"tiny": Backbone(dim=48, ffn_dim=96, heads=2, layers=4, text_dim=32, text_len=32, freq_dim=32)},
    video=NativeVideo(height=64, width=64, rate=16),
    layouts={"native": Injection.ARGUMENTS},
    capabilities={
        "sink": _full(),
        "window": _full(),
        "prompt_switch": _full(),
        "preserve_latents": _full(),
        "reference_slots": _full(),
        "stream_batch": _full(),
        "clean_pass": _cannot("the memory is what the denoise steps leave"),
        "reanchor": _cannot("the memory is what the denoise steps leave"),
        "bank": _cannot("old keys are dropped"),
        "packed_history": _cannot("it keeps a KV cache"),
        "relative_rope": _cannot("positions are absolute"),
        "lora": _cannot("it has random weights only"),
        "live_model": _cannot("there is no official model"),
    },
)


@hookimpl
def vace_describe():
    return INFO


@hookimpl
def vace_settings():
    return BatchedSettings


@hookimpl
def vace_load_pipeline():
    raise CheckpointError("the batched reference pipeline has random weights only: name none")


@hookimpl
def vace_tiny_pipeline(settings, seed):
    from vace_adapt.embedded.tiny import tiny_wan_parts

    steps = len(settings.denoising_steps)
    return dataclasses.replace(tiny_wan_parts(settings, seed, draws=steps), chunks_at_once=steps)


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
    from vace_adapt_conformance.batched.memory import BatchedMemory

    return BatchedMemory(parts, shapes, batch, references)


@hookimpl
def vace_stream(parts, stream):
    from vace_adapt_conformance.batched.loop import run_stream

    return run_stream(parts, stream)
