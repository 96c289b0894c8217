"""Small plots as SVG, one line for each run over the chunks. Colours are the page's: class ``run0``, ``run1``, ..."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 24

DASHES = ("", "6 3", "2 3", "8 3 2 3")
"""Of the lines, in turn, so that no line is told by its colour alone."""


def plot(title: str, unit: str, series: Sequence[tuple[str, Sequence[float]]]) -> str:
    """A plot of one measure.

    Args:
        title, unit: of the measure.
        series: name and values of each run, in the page's order; NaN leaves a gap.

    Returns:
        An ``<svg>`` element.
    """
    values = [value for _, line in series for value in line if not math.isnan(value)]
    low, high = _range(values)
    chunks = max(len(line) for _, line in series)

    def x(chunk: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (chunk / (chunks - 1) if chunks > 1 else 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title} by chunk")}">']
    for level in (low, (low + high) / 2, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(level):.1f}" y2="{y(level):.1f}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y(level) + 3.5:.1f}" text-anchor="end">{short(level)}</text>')
    for chunk in _ticks(chunks):
        parts.append(f'<text x="{x(chunk):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{chunk}</text>')
    for i, (name, line) in enumerate(series):
        dash = f' stroke-dasharray="{DASHES[i % len(DASHES)]}"' if DASHES[i % len(DASHES)] else ""
        for piece in _pieces(line):
            points = " ".join(f"{x(chunk):.1f},{y(value):.1f}" for chunk, value in piece)
            parts.append(f'<polyline class="run{i}" points="{points}"{dash}/>')
        for chunk, value in enumerate(line):
            if not math.isnan(value):
                told = escape(f"{name}, chunk {chunk}: {short(value)} {unit}".strip())
                dot = f'<circle class="run{i}" data-chunk="{chunk}" cx="{x(chunk):.1f}" cy="{y(value):.1f}" r="2.6">'
                parts.append(f"{dot}<title>{told}</title></circle>")
    return "".join([*parts, "</svg>"])


def short(value: float) -> str:
    """A number in as few figures as say something."""
    if math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    places = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:.{places}f}" if size >= 0.1 else f"{value:.2g}"


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Ends of the axis; 0 is one of them where it is not far."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if 0 < low < high / 2:
        low = 0.0
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(chunks: int) -> range:
    return range(0, chunks, max(1, math.ceil(chunks / 8)))


def _pieces(line: Sequence[float]) -> list[list[tuple[int, float]]]:
    """The stretches without a gap."""
    pieces: list[list[tuple[int, float]]] = [[]]
    for chunk, value in enumerate(line):
        if math.isnan(value):
            pieces.append([])
        else:
            pieces[-1].append((chunk, value))
    return [piece for piece in pieces if len(piece) > 1]
