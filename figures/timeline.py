"""Chunk by chunk: which latent frames each pipeline denoises, which it still sees, and which are gone."""

from __future__ import annotations

from collections.abc import Mapping

from memories import PIPELINES, Memory, Moment, memory_of
from svg import WIDTH, Drawing

CHUNKS = 7
LEFT, RIGHT = 88, 12
WIDEST = 27
ROW, CELL = 22, 18
HEADER, GAP = 84, 26

LEGEND = (
    ("work", "denoised now"),
    ("sink", "sink: first frames, kept"),
    ("window", "window: newest frames"),
    ("bank", "memory bank"),
    ("base", "next chunk, a step behind"),
    ("gone", "evicted, not seen"),
)
"""Kinds of cells and what they are."""

ABOUT = (
    "Each cell is a latent frame, each row a moment. References take no cell: by default they are in",
    "the context path alone. Control latents and hints are made for the cells that are denoised.",
)

PACKED = {"1x": 1.0, "2x": 0.6, "4x": 0.3}
"""Height of a cell of a packed history, in cells."""


def timeline(memories: Mapping[str, Memory] | None = None) -> str:
    """The drawing, as SVG.

    Args:
        memories: by pipeline; those of all with their default settings where they are not given.
    """
    memories = memories or {name: memory_of(name, {}, CHUNKS) for name in PIPELINES}
    top = 144
    height = top + len(memories) * (HEADER + CHUNKS * ROW + GAP) - GAP + 16
    drawing = Drawing(height, "Chunk timeline of four pipelines")
    drawing.text(12, 28, "Chunk by chunk: what is denoised, what is remembered", room=736, size=19, bold=True)
    for i, (kind, meaning) in enumerate(LEGEND):
        x, y = 12 + i % 3 * 248, 44 + i // 3 * 26
        drawing.rect(x, y, CELL, CELL, kind)
        drawing.text(x + CELL + 7, y + 14, meaning, room=248 - CELL - 12)
    for i, line in enumerate(ABOUT):
        drawing.text(12, 112 + 20 * i, line, room=WIDTH - 24)
    for name, memory in memories.items():
        _pipeline(drawing, top + 12, name, memory)
        top += HEADER + CHUNKS * ROW + GAP
    return drawing.render()


def _pipeline(drawing: Drawing, top: float, name: str, memory: Memory) -> None:
    """One pipeline: what it is, then a row for each chunk."""
    drawing.line((12, top), (WIDTH - 12, top), kind="quiet")
    drawing.text(12, top + 24, name, room=200, size=17, bold=True)
    for i, line in enumerate(described(name, memory)):
        drawing.text(12, top + 44 + 19 * i, line, room=WIDTH - 24, ink="quiet")
    top += HEADER
    last = memory.moments[-1]
    width = min(WIDEST, (WIDTH - LEFT - RIGHT) / max(last.made.stop, last.beside.stop))
    for chunk, moment in enumerate(memory.moments):
        y = top + chunk * ROW
        drawing.text(12, y + 14, f"chunk {chunk}", room=LEFT - 14)
        for frame in range(max(moment.made.stop, moment.beside.stop)):
            _cell(drawing, LEFT + frame * width, y, width, frame, moment)


def _cell(drawing: Drawing, x: float, y: float, width: float, frame: int, moment: Moment) -> None:
    kind = "work" if frame in moment.made else "base" if frame in moment.beside else moment.held.get(frame, "gone")
    height = CELL * PACKED.get(kind, 1)
    gap = 2 if width > 14 else 1.5
    drawing.rect(x, y + CELL - height, width - gap, height, "window" if kind in PACKED else kind, radius=2)
    if frame in moment.banked and kind != "bank":
        drawing.rect(x, y + CELL / 2, width - gap, CELL / 2, "bank", radius=2)


def described(name: str, memory: Memory) -> tuple[str, str]:
    """Two lines on a pipeline, with the numbers of its settings."""
    settings, layout = memory.settings, memory.layout
    if layout.kind == "packed":
        far, mid, near = settings.history
        return (
            f"sections of {settings.chunk_latents} latent frames beside clean latents of those before, no KV cache:",
            f"the first frame, {far} packed at 4x (low cells), {mid} at 2x, {near} at 1x",
        )
    frames = layout.slots - layout.bank
    size = count(settings.chunk_latents, "latent frame")
    first = f"chunks of {size}; keys and values of {frames}, the chunk's own among them"
    if name == "streamdiffusion":
        unlike = f"given up first if less than {settings.sink_threshold:g} like the new"
        return (
            f"chunks of {size} (the first {settings.first_latents}), "
            f"{memory.at_once} at once, each at its own step; cache of {frames}:",
            f"the first {layout.sink} ({unlike}), the others give up their slots in turn",
        )
    kept = f"the first {layout.sink} and the newest {frames - layout.sink}"
    if layout.bank:
        offered = "every chunk" if settings.memory == "single" else f"one chunk in {settings.record_interval}"
        return first, f"{kept}; and a bank of {layout.bank}, which is offered a frame of {offered}"
    return first, f"{kept}; {len(settings.denoising_steps)} denoise steps, then a clean pass that writes the cache"


def count(number: int, what: str) -> str:
    """A number of things."""
    return f"{number} {what}{'' if number == 1 else 's'}"
