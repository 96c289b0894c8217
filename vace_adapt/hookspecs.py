"""The contract between core and a pipeline plugin. These docstrings are the specification.

A plugin is a module (or object) named by one entry point of group ``vace_adapt``. Exactly one plugin is loaded into a
pipeline's own `pluggy.PluginManager`, so every hook has one answer. Implementations are decorated with `hookimpl`, take
any subset of the arguments below by name, and have no default values, no ``*args`` and no keyword-only arguments.

Shapes: B batch rows, F latent frames of a chunk, h and w latent height and width, L = F*h*w/4 tokens, D model width.
Hooks are called once per load, per attach, per stream or per chunk; never per block and never per denoise step.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from vace_adapt.contract import (
    AnnotatorInfo,
    Attend,
    BlockMap,
    CacheOps,
    ChunkReport,
    ChunkShapes,
    Comparison,
    EmbeddedBase,
    PipelineInfo,
    PipelineParts,
    PipelineSettings,
    ReferenceRoom,
    Stream,
    WeightsSettings,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

HOOK_API = 5
"""Version of this contract: of the hooks below and of the types and protocols in `vace_adapt.contract` that they pass.

It grows when a required hook, a protocol's method, a field without a default or a capability is added, removed, or
changes its meaning.
"""

PROJECT = "vace_adapt"
"""Entry-point group of pipelines and pluggy project name."""

ANNOTATORS = "vace_adapt.annotators"
"""Entry-point group of annotators."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

# -------------------------------------------------------------------------
# Who the plugin is. Called before any weights are read.
# -------------------------------------------------------------------------


@hookspec(firstresult=True)
def vace_describe() -> PipelineInfo:
    """Say who the plugin is and what it can do.

    Required. First result.

    :returns: a frozen `PipelineInfo`; ``name`` equals the entry-point name, ``hook_api`` the `HOOK_API` written
        against.

    Must not import torch or read a file: ``vace-adapt list`` calls it for every installed plugin.
    Called once, right after loading.
    """


@hookspec(firstresult=True)
def vace_settings() -> type[PipelineSettings]:
    """Name the pydantic model of the ``pipeline:`` section.

    Required. First result.

    :returns: a subclass of `PipelineSettings`, frozen, extra keys forbidden. Every number of the official configuration
        is a field; its defaults equal the plugin's ``conf/pipeline/NAME.yaml``.

    Must not import torch. Called whenever a configuration is validated.
    """


# -------------------------------------------------------------------------
# Loading. Called once per pipeline.
# -------------------------------------------------------------------------


@hookspec(firstresult=True)
def vace_load_pipeline(
    settings: PipelineSettings,
    weights: WeightsSettings,
    device: torch.device,
    dtype: torch.dtype,
    model: nn.Module | None,
    layout: str,
) -> PipelineParts:
    """Build the real base model, VAE and text encoder from local files.

    Required. First result.

    :param settings: an instance of the class named by `vace_settings`.
    :param weights: where the files are. ``weights.control`` is core's business: ignore it.
    :param device: where the parts must be.
    :param dtype: dtype of the base model; the VAE stays in the dtype it needs.
    :param model: a live model object in layout `layout` to use instead of reading ``weights.base``; None otherwise.
    :param layout: one of ``info.layouts``.
    :returns: the parts, in evaluation mode, with no parameter requiring a gradient.
    :raises CheckpointError: a file is missing, damaged, unsafe or of another size; the text carries the numbers.

    Never downloads unless ``weights.download``. A live model's weights, modes and structure must not change.
    Called once per `load_pipeline` with weights or a live model.
    """


@hookspec(firstresult=True)
def vace_tiny_pipeline(settings: PipelineSettings, seed: int) -> PipelineParts:
    """Build the same classes at toy size: CPU, float32, random weights that depend on `seed` only.

    Required. First result.

    :param settings: as for `vace_load_pipeline`; windows, steps and chunk sizes hold, model sizes do not.
    :param seed: same seed, same bits.
    :returns: parts with ``trained=False`` and ``control_layers`` set.

    What the conformance suite and most tests run on. Called once per `load_pipeline` without weights where a seed is
    named, or where the plugin ships no trained base model.
    """


@hookspec(firstresult=True)
def vace_embedded_base(settings: PipelineSettings) -> EmbeddedBase | None:
    """Name the tiny trained base model that ships with the plugin.

    Optional. First result. A plugin without one has random weights where none are named.

    :param settings: as for `vace_load_pipeline`; windows, steps and chunk sizes hold.
    :returns: its file and the settings to load it with. It is a student of the embedded family's bidirectional base
        (`vace_adapt.embedded.family`), whose context blocks, autoencoder and text encoder it is used with.

    Must not import torch or read a file. Called once per `load_pipeline` without weights.
    """


# -------------------------------------------------------------------------
# Injection. Called once per attach.
# -------------------------------------------------------------------------


@hookspec(firstresult=True)
def vace_locate_blocks(model: nn.Module, layout: str) -> BlockMap:
    """Say where the transformer blocks of `model` are and how to read and write them.

    Required. First result.

    :param model: the base transformer, bare or wrapped by peft.
    :param layout: the declared layout of `model`; never guessed from the object.
    :returns: one `BlockSite` for each block, in execution order. ``write(out, hidden(out))`` equals ``out`` bit for
        bit.

    Must not change the model: two calls give the same answer and leave every bit in place.
    Called when a pipeline is made, and when its blocks are compiled.

    Example, for blocks that return their hidden states::

        @hookimpl
        def vace_locate_blocks(model, layout):
            sites = [BlockSite(f"blocks.{i}", read, lambda out: out, lambda out, hidden: hidden)
                     for i in range(len(model.blocks))]
            return BlockMap(tuple(sites), patch_embedding="patch_embedding")
    """


@hookspec(firstresult=True)
def vace_wrap_attention(attend: Attend, layer: int, model: nn.Module) -> Attend:
    """Choose the self-attention of one context block.

    Required, even where it is ``return attend``. First result.

    :param attend: core's attention: query [B, L, H, d], key and value [B, K, H, d], rotated; plain SDPA over exactly
        these keys, nothing padded, nothing masked.
    :param layer: index of the context block.
    :param model: the base transformer.
    :returns: the callable to use, of the same type; e.g. another kernel.

    Must not read or write a cache of the base model. Called once per context block per load.
    """


# -------------------------------------------------------------------------
# Streams. Called when a stream opens.
# -------------------------------------------------------------------------


@hookspec(firstresult=True)
def vace_chunk_shapes(parts: PipelineParts, height: int, width: int) -> ChunkShapes:
    """Give the chunk sizes of a stream.

    Required. First result.

    :param parts: what was loaded.
    :param height: pixel height.
    :param width: pixel width.
    :returns: latent frames of the first and of later chunks, latent size, patch and strides.
    :raises InputError: a side cannot be divided; the text names both sides of the rule.

    Called once per stream, before anything is allocated.
    """


@hookspec(firstresult=True)
def vace_cache_ops(parts: PipelineParts, shapes: ChunkShapes, batch: int, references: ReferenceRoom | None) -> CacheOps:
    """Allocate the memory of one stream.

    Required. First result.

    :param parts: what was loaded.
    :param shapes: from `vace_chunk_shapes`.
    :param batch: rows B of the stream.
    :param references: what to reserve for references in the base's self-attention; None unless it was asked for and
        capability ``reference_slots`` is declared.
    :returns: fixed buffers, written in place for the whole stream; independent of which references and controls are
        given.

    Called once per stream.
    """


@hookspec(firstresult=True)
def vace_stream(parts: PipelineParts, stream: Stream) -> Generator[Tensor]:
    """Run the base model's own loop.

    Required. First result.

    :param parts: what was loaded.
    :param stream: the cache, the shapes, and ``chunks()``. Each chunk gives its noise, its prompt, and for every
        forward pass the hints to run it with: ``chunk.denoising(step, sigma)``, ``chunk.unconditional(step, sigma)``,
        ``chunk.clean_pass(sigma)``, ``chunk.recaching()``. A pass that gets None runs exactly as the bare base model
        does. Where the ``references`` of what it gets are not None, its self-attention sees them, too (capability
        ``reference_slots``, see `SlotReferences`). Every estimate of the finished latents goes through
        ``chunk.keep(latents)`` (capability ``preserve_latents``). Before a chunk runs, and after its prompt is
        taken over, the memory of the rows in
        ``chunk.reanchor`` is rebuilt from the latents there (capability ``reanchor``; it is empty where that is not
        declared).
        A loop that works on several chunks at once takes the next one while ``stream.waiting`` (capability
        ``stream_batch``); one that starts from a video finds it in ``chunk.video``.
    :returns: a generator; for each chunk, in order, its finished latents [B, C, F, h, w] in the base's own
        normalisation. Core copies them where later chunks are shown their past (``controls.context_frames``): noised,
        they must be what the patch embedding takes.

    All randomness comes from ``chunk.noise``. Everything that outlives a chunk is in ``stream.cache`` or local to the
    generator: two streams of one model never meet. Called once per stream.
    """


@hookspec(firstresult=True)
def vace_decode(parts: PipelineParts, latents: Tensor, first: bool, state: list[object]) -> Tensor | None:
    """Decode one chunk's latents in another way than with the pipeline's VAE.

    Optional. First result.

    :param parts: what was loaded.
    :param latents: [B, C, F, h, w] as `vace_stream` yielded them.
    :param first: whether this is chunk 0.
    :param state: an empty list when the stream opens; the plugin keeps its decoder state there.
    :returns: float [B, 3, T, H, W] in [-1, 1], T as `ChunkShapes` says; or None for core's streaming VAE decode.

    Called once per chunk.
    """


# -------------------------------------------------------------------------
# Tools and observers.
# -------------------------------------------------------------------------


@hookspec(firstresult=True)
def vace_replay(path: Path) -> Comparison | None:
    """Replay a golden file: rebuild its model, feed its inputs, compare.

    Optional. First result.

    :param path: a file whose metadata ``pipeline`` is in ``info.golden_formats``.
    :returns: the errors by chunk and by cache, or None if the file is not for this plugin.
    :raises GoldenError: the file describes a model that cannot be rebuilt.

    Called by ``vace-adapt parity``.
    """


@hookspec
def vace_chunk_done(report: ChunkReport) -> None:
    """Be told about a finished chunk.

    Optional. Every registered observer is called.

    :param report: sizes, times and memory of the chunk.

    Must not change anything: output with and without observers is the same, bit for bit.
    Called once per chunk, after its frames are ready.
    """


# -------------------------------------------------------------------------
# Annotators. Plugins of their own: entry-point group ``vace_adapt.annotators``, this one hook.
# -------------------------------------------------------------------------


@hookspec(firstresult=True)
def vace_annotator() -> AnnotatorInfo:
    """Say who the annotator is, what it needs, and how one is made for a stream.

    Required of an annotator, and the only hook it has. First result.

    :returns: an `AnnotatorInfo`; ``name`` equals the entry-point name.

    Must not import torch or read a file: whatever is heavy is imported in ``make``. Called once, right after loading.

    Example::

        @hookimpl
        def vace_annotator():
            return AnnotatorInfo("invert", HOOK_API, "the negative of each frame", "control", AnnotatorSettings,
                                 lambda settings, canvas: Negative())
    """


ANNOTATOR_HOOKS = ("vace_annotator",)

REQUIRED_HOOKS = (
    "vace_describe",
    "vace_settings",
    "vace_load_pipeline",
    "vace_tiny_pipeline",
    "vace_locate_blocks",
    "vace_wrap_attention",
    "vace_chunk_shapes",
    "vace_cache_ops",
    "vace_stream",
)
OPTIONAL_HOOKS = ("vace_embedded_base", "vace_decode", "vace_replay", "vace_chunk_done")
