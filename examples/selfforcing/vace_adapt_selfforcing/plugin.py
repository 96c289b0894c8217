"""How Self-Forcing differs, hook by hook. Importing this module imports no torch."""

from vace_adapt.contract import Backbone, Capability, ChunkShapes, Injection, NativeVideo, PipelineInfo, Support
from vace_adapt.hookspecs import hookimpl
from vace_adapt.time_map import TimeMap
from vace_adapt_selfforcing.settings import Settings

YES = Capability(support=Support.FULL)


def no(reason):
    return Capability(support=Support.UNSUPPORTED, reason=reason)


def not_yet(reason):
    return Capability(support=Support.NOT_IMPLEMENTED, reason=reason)


INFO = PipelineInfo(
    name="selfforcing",
    title="Self-Forcing: Wan2.1 1.3B, chunks of 3 latent frames, 21 latent frames in the cache",
    hook_api=5,
    upstream="guandeh17/Self-Forcing@33593df3e81fa3ec10239271dd2c100facac6de1",
    backbones={"1.3B": Backbone(dim=1536, ffn_dim=8960, heads=12, layers=30)},
    video=NativeVideo(height=480, width=832, rate=16),
    layouts={"native": Injection.ARGUMENTS},
    capabilities={
        "window": YES,
        "clean_pass": YES,
        "preserve_latents": YES,
        "sink": not_yet("the official code can keep one, its configuration does not"),
        "prompt_switch": not_yet("the official code runs under one prompt"),
        "reanchor": not_yet("needs a recache"),
        "reference_slots": not_yet("the cache reserves none"),
        "live_model": not_yet("no layout of the official model is declared"),
        "bank": no("old keys are dropped"),
        "packed_history": no("it keeps a KV cache"),
        "relative_rope": no("positions are absolute"),
        "stream_batch": no("all rows of a batch are at the same step"),
        "lora": no("none is shipped"),
    },
)


@hookimpl
def vace_describe():
    return INFO


@hookimpl
def vace_settings():
    return Settings


@hookimpl
def vace_load_pipeline(settings, weights, device, dtype, model, layout):
    from vace_adapt.weights.parts import load_wan_parts

    sizes, key = INFO.backbones["1.3B"], "generator_ema" if settings.use_ema else "generator"
    draws = len(settings.denoising_steps)
    return load_wan_parts(settings, weights, device, dtype, model, layout, backbone=sizes, draws=draws, top_key=key)


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
    settings, latents = parts.settings, parts.settings.chunk_latents
    end = None if settings.rolling else settings.window
    return ChunkShapes.of(parts.backbone, TimeMap(latents, latents), height, width, max_latents=end)


@hookimpl
def vace_cache_ops(parts, shapes, batch):
    from vace_adapt_selfforcing.stream import Memory

    return Memory(parts, shapes, batch)


@hookimpl
def vace_stream(parts, stream):
    from vace_adapt_selfforcing.stream import run_stream

    return run_stream(parts, stream)
