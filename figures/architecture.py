"""Batch VACE and vace_adapt side by side: what runs in which blocks, and where references and hints go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from svg import WIDTH, Drawing

from vace_adapt.loading import load_plugin
from vace_adapt.validation import validated
from vace_adapt.weights.control import spread

CONTEXT_BLOCKS = 15
"""Of the released Wan2.1-VACE-1.3B (``vace_layers`` of its configuration)."""

REFERENCES = 2
CLIP = 6
"""Cells that stand for the references, and for the latent frames of a whole clip."""

PANEL = (WIDTH - 3 * 8) / 2
COLUMN = 144
BAR, BAR_STEP = 6.5, 9

Kinds = Sequence[str]


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        title, subtitle: above it.
        context, base: kinds of the cells of the sequences in the context blocks and in the base blocks.
        result: cells of what comes out.
        under: two lines each under context, base and result.
        points: lines at the end.
    """

    title: str
    subtitle: str
    context: Kinds
    base: Kinds
    result: Kinds
    under_context: tuple[str, str]
    under_base: tuple[str, str]
    under_result: str
    points: tuple[str, ...]


def architecture(settings: Mapping[str, Any] | None = None) -> str:
    """The drawing, as SVG.

    Args:
        settings: of the streaming pipeline (LongLive), those that are not the defaults.
    """
    plugin = load_plugin("longlive")
    chosen: Any = validated(plugin.settings_type(), {"name": "longlive", **(settings or {})}, "pipeline")
    layers = spread(CONTEXT_BLOCKS, chosen.backbone.layers)
    drawing = Drawing(704, "Architecture: batch VACE and streaming VACE side by side")
    for number, side in enumerate((batch(), streaming(chosen))):
        _panel(drawing, 8 + number * (PANEL + 8), side, chosen.backbone.layers, layers)
    return drawing.render()


def batch() -> Side:
    """VACE as it was published."""
    sequence = ["reference"] * REFERENCES
    return Side(
        title="Batch VACE",
        subtitle="the whole clip at once",
        context=[*sequence, *["context"] * CLIP],
        base=[*sequence, *["work"] * CLIP],
        result=["gone"] * REFERENCES + ["work"] * CLIP,
        under_context=("references in front,", "then all control"),
        under_base=("references in front,", "then all latents"),
        under_result="references are cut off at the end",
        points=(
            "References are latents of the video:",
            "every base block works on them, too.",
            "Attention in both directions, nothing",
            "is kept: it cannot go on as a stream.",
        ),
    )


def streaming(settings: Any) -> Side:
    """The same blocks beside a base that streams."""
    own, slots = settings.chunk_latents, settings.slots
    older = slots - settings.sink - own
    held = ["sink"] * settings.sink + ["window"] * older
    return Side(
        title="vace_adapt",
        subtitle="chunk by chunk, with a KV cache",
        context=[*["reference"] * REFERENCES, *["context"] * own],
        base=[*held, *["work"] * own],
        result=["work"] * own,
        under_context=("references, then the", "chunk's control alone"),
        under_base=(f"{settings.sink} sink + {older} window,", f"then the chunk's {own}"),
        under_result="all of it is video",
        points=(
            "References are in the context path only;",
            "hints of their rows are dropped.",
            "Chunk size, KV cache and positions of the",
            "base are the same as without control.",
        ),
    )


def _panel(drawing: Drawing, x: float, side: Side, depth: int, layers: Sequence[int]) -> None:
    drawing.rect(x, 8, PANEL, drawing.height - 16, "panel", radius=8)
    left, right = x + 14, x + PANEL - 14 - COLUMN
    drawing.text(x + 14, 38, side.title, room=PANEL - 28, size=20, bold=True)
    drawing.text(x + 14, 60, side.subtitle, room=PANEL - 28, size=16, ink="quiet")
    for place, name in ((left, f"context: {len(layers)} blocks"), (right, f"base: {depth} blocks")):
        drawing.text(place, 92, name, room=COLUMN + 20, size=16, bold=True)
    for place, kinds, under in ((left, side.context, side.under_context), (right, side.base, side.under_base)):
        drawing.cells(place, 102, COLUMN / len(kinds), 24, kinds)
        for i, line in enumerate(under):
            drawing.text(place, 145 + 18 * i, line, room=COLUMN + 26, size=14)
    top = 200
    for place in (left, right):
        drawing.arrow((place + COLUMN / 2, 170), (place + COLUMN / 2, top - 6))
    _blocks(drawing, top, (left, right), side, depth, layers)
    bottom = top + depth * BAR_STEP
    cell = COLUMN / max(len(side.base), len(side.result))
    shown = right + COLUMN - cell * len(side.result)
    middle = (shown + cell * side.result.index("work") + right + COLUMN) / 2
    drawing.arrow((middle, bottom + 4), (middle, bottom + 58))
    first, second, last = layers[0], layers[1], layers[-1]
    drawing.text(left, bottom + 24, "hints are added behind", room=COLUMN + 40, ink="hint")
    drawing.text(left, bottom + 44, f"blocks {first}, {second}, … {last}", room=COLUMN + 40, ink="hint")
    drawing.cells(shown, bottom + 62, cell, 24, side.result)
    drawing.text(x + PANEL - 14, bottom + 106, side.under_result, room=PANEL - 28, anchor="end")
    for i, line in enumerate(side.points):
        drawing.text(x + 14, bottom + 142 + 20 * i, line, room=PANEL - 28)


def whole(side: Side) -> bool:
    """Whether hints have as many rows as the base's sequence."""
    return len(side.base) == len(side.context)


def _blocks(
    drawing: Drawing, top: float, places: tuple[float, float], side: Side, depth: int, layers: Sequence[int]
) -> None:
    """A bar for each block, in the colours of its sequence; hints go from context bars to base bars."""
    left, right = places
    work = right + (0 if whole(side) else COLUMN * side.base.index("work") / len(side.base))
    for block in range(depth):
        y = top + block * BAR_STEP
        _bar(drawing, right, y, side.base)
        if block in layers:
            _bar(drawing, left, y, side.context)
            drawing.arrow((left + COLUMN + 2, y + BAR / 2), (work - 2, y + BAR / 2), kind="hint", head=4)


def _bar(drawing: Drawing, x: float, y: float, kinds: Kinds) -> None:
    """A block: one stretch for each kind of its cells."""
    step, start = COLUMN / len(kinds), 0
    for i, kind in enumerate(kinds):
        if i + 1 == len(kinds) or kinds[i + 1] != kind:
            drawing.rect(x + start * step, y, (i + 1 - start) * step - 2, BAR, kind, radius=1)
            start = i + 1
