"""What each pipeline remembers, chunk by chunk: read from its own cache while its tiny pipeline streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vace_adapt import load_pipeline
from vace_adapt.contract import CacheLayout, ChunkShapes

PIPELINES = ("longlive", "memflow", "streamdiffusion", "framepack")

FEWER = {
    "streamdiffusion": {"sink_threshold": -1},  # whether a sink frame is replaced depends on the picture
    "framepack": {"steps": 1, "guidance": 1},  # takes no part in what is remembered
}
"""Settings with which the pipelines run here; sizes are those of the settings to be drawn."""


@dataclass(frozen=True)
class Moment:
    """One chunk while it is denoised; everything in latent frames.

    Attributes:
        made: the chunk's own.
        beside: of the later chunks that are at an earlier step meanwhile, with a memory of their own.
        held: what it sees of the frames before, and as what: ``sink``, ``window``, ``bank`` (those in the bank alone),
            or ``1x``, ``2x`` and ``4x`` of a packed history.
        banked: those that are in a bank, also where they are held elsewhere, too.
    """

    made: range
    beside: range
    held: Mapping[int, str]
    banked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Memory:
    """A pipeline's.

    Attributes:
        settings: of the pipeline, as drawn.
        layout: of its memory.
        at_once: chunks that it works on at once.
        moments: by chunk.
    """

    settings: Any
    layout: CacheLayout
    at_once: int
    moments: tuple[Moment, ...]


def memory_of(name: str, settings: Mapping[str, Any], chunks: int) -> Memory:
    """Stream some chunks, and write down what the memory holds at each.

    Args:
        name: of the pipeline.
        settings: those of its numbers that are not the defaults.
        chunks: how many.
    """
    pipe = load_pipeline(name, settings={**settings, **FEWER.get(name, {})}, seed=0, device="cpu", dtype="float32")
    rows, columns = pipe.parts.backbone.unit
    at_once = pipe.parts.chunks_at_once
    moments = []
    with torch.no_grad(), pipe.stream("", height=rows, width=columns) as stream:
        for chunk in range(chunks):
            before = stream.cache.positions()
            next(stream)
            layout, shapes = stream.cache.layout, stream.shapes
            seen = before if layout.kind == "packed" else stream.cache.positions()
            moments.append(_moment(chunk, at_once, layout, seen, pipe.parts.settings, shapes))
    shown = type(pipe.parts.settings)(name=name, **settings)
    return Memory(shown, layout, at_once, tuple(moments))


def _moment(chunk: int, at_once: int, layout: CacheLayout, seen: Any, settings: Any, shapes: ChunkShapes) -> Moment:
    """What is seen, by latent frame: slots come sink first, then the others, then the bank."""
    time = shapes.time
    start = time.latent_start(chunk)
    made = range(start, start + time.latents(chunk))
    beside = range(made.stop, time.latent_start(chunk + at_once) if chunk else made.stop)
    frames = layout.slots - layout.bank
    kinds = ["sink"] * layout.sink + ["window"] * (frames - layout.sink)
    if layout.kind == "packed":
        kinds = ["sink", *(f"{scale}x" for scale, n in zip((4, 2, 1), settings.history, strict=True) for _ in range(n))]
    banked = frozenset(frame for frame in seen[frames:] if frame >= 0)
    held = dict.fromkeys(sorted(banked), "bank")
    held.update({frame: kind for frame, kind in zip(seen, kinds, strict=False) if frame >= 0})
    return Moment(made, beside, {frame: kind for frame, kind in held.items() if frame not in made}, banked)
