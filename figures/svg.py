"""Plain SVG of boxes, lines and text: one file, legible in light and in dark, on a wide page and on a phone.

Nothing is laid out by itself: a caller says where things are, and text that would leave its room is an error. Fonts
differ from machine to machine, so the room a text needs is estimated generously and takes no part in what is drawn: the
same calls give the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from PIL import ImageFont

SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace"
SIZE = 15
"""Pixels of usual text in a drawing of `WIDTH`: half of that where a phone shows it."""

WIDTH = 760

WIDER = 1.14
"""How much wider a reader's font may be than the one that text is measured with."""

MONO_ADVANCE = 0.61
"""Width of a character of a monospaced font, in font sizes."""

PALETTE = {
    # kind: light fill, light line, dark fill, dark line
    "panel": ("#f6f8fa", "#d1d9e0", "#151b23", "#3d444d"),
    "plain": ("#ffffff", "#818b98", "#0d1117", "#656c76"),
    "base": ("#b6e3ff", "#0969da", "#0c3a7a", "#4493f8"),
    "work": ("#0969da", "#0550ae", "#388bfd", "#a5d6ff"),
    "context": ("#aceebb", "#1a7f37", "#0f5323", "#3fb950"),
    "reference": ("#e2c5ff", "#8250df", "#512a97", "#ab7df8"),
    "hint": ("#ffd8a8", "#bc4c00", "#762d0a", "#f0883e"),
    "sink": ("#ffc2dc", "#bf3989", "#6b1f4a", "#f778ba"),
    "window": ("#b0ebe6", "#0f766e", "#11514c", "#39c5bb"),
    "bank": ("#ffe08a", "#9a6700", "#693e00", "#d29922"),
    "gone": ("#ffffff", "#d1242f", "#0d1117", "#f85149"),
}
INKS = {"ink": ("#1f2328", "#e6edf3"), "quiet": ("#59636e", "#9da7b1")}
PAPER = ("#ffffff", "#0d1117")


class Drawing:
    """Collects shapes.

    Args:
        height: pixels; the width is `WIDTH`.
        title: what a screen reader says.
    """

    def __init__(self, height: int, title: str) -> None:
        self.height = height
        self._title = title
        self._shapes: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, kind: str, *, radius: float = 3) -> None:
        """A filled rectangle; one of kind ``gone`` is dashed."""
        self._shapes.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        room: float,
        size: float = SIZE,
        ink: str = "ink",
        anchor: str = "start",
        bold: bool = False,
        mono: bool = False,
    ) -> None:
        """A line of text on the baseline `y`.

        Args:
            x, y: where it begins, or its middle or end as `anchor` says.
            words: the line.
            room: pixels it may take.
            size: of the font.
            ink: ``ink``, ``quiet``, or a kind whose line colour it has.
            anchor: ``start``, ``middle`` or ``end``.
            bold, mono: of the font.

        Raises:
            ValueError: it needs more than `room`.
        """
        needed = text_width(words, size, bold=bold, mono=mono)
        if needed > room:
            raise ValueError(f"{words!r} needs {needed:.0f} pixels, there are {room:g}")
        style = " ".join(filter(None, ["m" if mono else "", "b" if bold else "", ink if ink in INKS else f"t-{ink}"]))
        self._shapes.append(
            f'<text class="{style}" x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        lines: Sequence[str],
        kind: str,
        *,
        mono: Sequence[int] = (),
        bold: Sequence[int] = (),
        size: float = SIZE,
    ) -> None:
        """A rectangle with centred lines of text, those numbered in `mono` and `bold` in such a font.

        Raises:
            ValueError: they do not fit.
        """
        step = size + 5
        if step * len(lines) + 4 > height:
            raise ValueError(f"{list(lines)} need {step * len(lines) + 4:g} pixels of height, there are {height:g}")
        self.rect(x, y, width, height, kind, radius=6)
        top = y + (height - step * len(lines)) / 2 + size
        for i, line in enumerate(lines):
            place = x + width / 2, top + i * step
            self.text(*place, line, room=width - 8, size=size, anchor="middle", mono=i in mono, bold=i in bold)

    def cells(self, x: float, y: float, width: float, height: float, kinds: Sequence[str]) -> None:
        """Cells of equal width in a row."""
        for i, kind in enumerate(kinds):
            self.rect(x + i * width, y, width - 2, height, kind)

    def line(self, *points: tuple[float, float], kind: str = "ink") -> None:
        """A line through points."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._shapes.append(f'<polyline class="l-{kind}" points="{path}"/>')

    def arrow(self, *points: tuple[float, float], kind: str = "ink", head: float = 5) -> None:
        """A line through points, the last stretch of which is level or upright and ends in a head."""
        (x0, y0), (x1, y1) = points[-2:]
        dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
        self.line(*points[:-1], (x1 - dx * head, y1 - dy * head), kind=kind)
        back = x1 - dx * 1.6 * head, y1 - dy * 1.6 * head
        corners = [(x1, y1), (back[0] - dy * head * 0.8, back[1] - dx * head * 0.8),
                   (back[0] + dy * head * 0.8, back[1] + dx * head * 0.8)]  # fmt: skip
        self._shapes.append(f'<polygon class="h-{kind}" points="{" ".join(f"{x:g},{y:g}" for x, y in corners)}"/>')

    def render(self) -> str:
        """The file's text."""
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
            f'height="{self.height}" role="img" font-family="{SANS}">',
            f"<title>{escape(self._title)}</title>",
            f"<style>\n{style(0)}\n.b{{font-weight:600}}\n.m{{font-family:{MONO}}}\n"
            f"@media (prefers-color-scheme: dark) {{\n{style(1)}\n}}\n</style>",
            f'<rect class="paper" width="{WIDTH}" height="{self.height}"/>',
            *self._shapes,
            "</svg>\n",
        ])  # fmt: skip


def style(scheme: int) -> str:
    """The colours of a scheme, 0 for light and 1 for dark, as rules."""
    rules = [f".paper{{fill:{PAPER[scheme]}}}"]
    for ink, colours in INKS.items():
        rules += [f".{ink}{{fill:{colours[scheme]}}}", *_lines(ink, colours[scheme])]
    for kind, colours in PALETTE.items():
        fill, line = colours[2 * scheme : 2 * scheme + 2]
        dashes = ";stroke-dasharray:3 2" if kind == "gone" else ""
        rules += [f".{kind}{{fill:{fill};stroke:{line}{dashes}}}", f".t-{kind}{{fill:{line}}}", *_lines(kind, line)]
    return "\n".join(rules)


def _lines(name: str, colour: str) -> list[str]:
    return [f".l-{name}{{fill:none;stroke:{colour};stroke-width:1.5}}", f".h-{name}{{fill:{colour}}}"]


def text_width(words: str, size: float, *, bold: bool = False, mono: bool = False) -> float:
    """Pixels that a line of text may take, whatever the reader's font."""
    if mono:
        return len(words) * size * MONO_ADVANCE
    return ImageFont.load_default(100).getlength(words) / 100 * size * WIDER * (1.05 if bold else 1)
