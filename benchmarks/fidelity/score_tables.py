"""The tables of the report, in Markdown."""

from __future__ import annotations

from cases import CASES
from questions import BATCH, CHANCE, MAIN, STREAMS, Table
from summary import Cells, Summary, ratio

BAR, BAR_DB = 0.9, -2.0
"""Of batch VACE's score that streaming should reach; of a score in dB, how far below it may be."""

MISSING = "not measured"


def rows(table: Table, cells: Cells) -> list[str]:
    """Cases of which something is measured."""
    return [case for case in table.cases if any((case, arm.name) in cells for arm in table.arms)]


def main_table(cells: Cells) -> str:
    """What every way to generate reaches; streams with their ratio to batch VACE, or how far they are from it in dB."""
    names = [arm.name for arm in MAIN.arms if arm.hints]
    lines = _head(["task", "score", *names])
    for case in rows(MAIN, cells):
        batch = cells.get((case, BATCH.name))
        lines.append(
            f"| {case} | {CASES[case].unit} | {' | '.join(_cell(case, name, cells, batch) for name in names)} |"
        )
    return "\n".join([*lines, ""])


def without_hints(cells: Cells) -> str:
    """The same streams when hints are left out."""
    arms = [arm for arm in MAIN.arms if not arm.hints]
    lines = ["## The same without hints\n", *_head(["task", "score", *(arm.pipeline for arm in arms), CHANCE.name])]
    for case in rows(MAIN, cells):
        shown = [_cell(case, name, cells) for name in (*(arm.name for arm in arms), CHANCE.name)]
        lines.append(f"| {case} | {CASES[case].unit} | {' | '.join(shown)} |")
    return "\n".join([*lines, ""])


def bars(cells: Cells) -> str:
    """For every pipeline, which bars are met, and by how much the others are missed."""
    lines = [
        "## Bars\n",
        f"A stream should reach {BAR} of batch VACE, or be within {-BAR_DB:g} dB of it. Counted above chance as well, "
        "since a score has a part that anything reaches.\n",
        *_head(["pipeline", "task", "of batch", "of batch, above chance", "no hints, above chance", "bar"]),
    ]
    for arm in STREAMS:
        for case in rows(MAIN, cells):
            names = (arm.name, BATCH.name, CHANCE.name, f"{arm.name}, no hints")
            found = [cells.get((case, name)) for name in names]
            shown = _bar(case, *found) if all(found) else f" | | | {MISSING}"  # type: ignore[arg-type]
            lines.append(f"| {arm.name} | {case} | {shown} |")
    return "\n".join([*lines, ""])


def section(table: Table, cells: Cells) -> str:
    """A question and its answer."""
    names = [arm.name for arm in table.arms]
    lines = [f"## {table.question}\n", *_head(["task", "score", *names])]
    for case in rows(table, cells):
        lines.append(f"| {case} | {CASES[case].unit} | {' | '.join(_cell(case, name, cells) for name in names)} |")
    return "\n".join([*lines, ""])


def _head(names: list[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]


def _bar(case: str, stream: Summary, batch: Summary, chance: Summary, bare: Summary) -> str:
    """The last four columns."""
    if CASES[case].unit == "dB":
        off = stream.mean - batch.mean
        verdict = "met" if off >= BAR_DB else f"missed by {BAR_DB - off:.1f} dB"
        return f"{off:+.1f} dB | | {bare.mean - chance.mean:+.1f} dB | {verdict}"
    reached = stream.mean / batch.mean
    if batch.mean - batch.half <= chance.mean:
        return f"{reached:.2f} | | | none: batch VACE itself is not above chance"
    verdict = "met" if reached >= BAR else f"missed by {BAR - reached:.2f}"
    return f"{reached:.2f} | {ratio(stream, batch, chance):.2f} | {ratio(bare, batch, chance):.2f} | {verdict}"


def _cell(case: str, name: str, cells: Cells, batch: Summary | None = None) -> str:
    """Mean and interval; of a stream beside batch VACE, also its ratio or difference."""
    found = cells.get((case, name))
    if found is None:
        return MISSING
    in_db = CASES[case].unit == "dB"
    score = f"{found.mean:.1f} ± {found.half:.1f}" if in_db else f"{found.mean:.3f} ± {found.half:.3f}"
    if batch is None or name not in {arm.name for arm in STREAMS}:
        return score
    return f"{score} ({found.mean - batch.mean:+.1f})" if in_db else f"{score} ({found.mean / batch.mean:.2f})"
