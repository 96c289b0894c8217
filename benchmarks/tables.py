"""Write the measured tables into README.md and docs/speed.md, between their markers: ``python benchmarks/tables.py``.

``<!-- speed:mid-cpu:split -->`` is the table ``split`` of ``benchmarks/results/speed-mid-cpu.json``, which
``benchmarks/speed.py`` writes; ``cost`` is a short form of it. A test compares both files with what this script makes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FILES = (ROOT / "README.md", ROOT / "docs" / "speed.md")

GIB, MIB = 2**30, 2**20
PARTS = {
    "encode": "encode",
    "context": "context path",
    "base": "base",
    "clean": "clean pass",
    "decode": "decode",
    "rest": "rest",
}


def markdown(result: dict[str, Any], table: str) -> str:
    """One table of a result, under a line on what was measured and how."""
    measured = result["tables"]["split" if table == "cost" else table]
    lines = [_setting(result, measured["setting"])]
    for group in measured["groups"]:
        lines += ["", *WRITERS[table](group)]
    return "\n".join(lines)


def _setting(result: dict[str, Any], setting: dict[str, Any]) -> str:
    backbone = result["backbone"]
    compiled = ", blocks compiled" if setting["compiled"] else ""
    return (
        f"{result['size']}: width {backbone['dim']}, {backbone['layers']} blocks, {result['control_layers']} context "
        f"blocks, random weights; {setting['device']}{_load(setting['load'])}, {setting['dtype']}, torch "
        f"{setting['torch']}{compiled}; {setting['date']}, `{setting['command']}`. Medians; of ratios the "
        "quartiles too."
    )


def _load(load: float | None) -> str:
    """What else the machine did."""
    return "" if load is None else f" (load average {load})"


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    cells = [header, ["---"] * len(header), *lines]
    return [f"| {' | '.join(line)} |" for line in cells]


def _group(group: dict[str, Any], header: Sequence[str], cells: Callable[[dict[str, Any]], Sequence[str]]) -> list[str]:
    """The rows of a group, or why there are none."""
    title = f"{group['title']}:"
    if "skipped" in group:
        return [f"{title} not measured, {group['skipped']}."]
    chunks = min(row["chunks"] for row in group["rows"].values())
    title = f"{group['title']}, {chunks} chunks:"
    return [title, "", *_table(header, ([name, *cells(row)] for name, row in group["rows"].items()))]


def cost(group: dict[str, Any]) -> list[str]:
    """The short form of a split."""

    def cells(row: dict[str, Any]) -> list[str]:
        vae = row["parts"]["encode"] + row["parts"]["decode"]
        return [_seconds(row["seconds"]), _seconds(vae), _ratio(row["ratio"]), _ratio(row["ratio_without_vae"])]

    return _group(group, ["stream", "s per chunk", "of which VAE", "ratio to base", "ratio without VAE"], cells)


def split(group: dict[str, Any]) -> list[str]:
    """Every part."""

    def cells(row: dict[str, Any]) -> list[str]:
        parts = [_seconds(row["parts"][part]) for part in PARTS]
        return [_seconds(row["seconds"]), *parts, _ratio(row["ratio"]), _ratio(row["ratio_without_vae"])]

    return _group(group, ["stream", "s per chunk", *PARTS.values(), "ratio to base", "ratio without VAE"], cells)


def growth(group: dict[str, Any]) -> list[str]:
    """Ratios, and of an old stream whether it is flat."""
    found = compared(group)
    if "flat" in group:
        age, held = group["chunks_before"], group["cache_bytes"]
        verdict = "Flat" if group["flat"] else "**Not flat**"
        found += [
            "",
            f"{verdict}: the old stream had made {age['old']} chunks, the young one {age['young']}; they hold "
            f"{held['old'] / MIB:.1f} and {held['young'] / MIB:.1f} MiB.",
        ]
    return found


def cache(group: dict[str, Any]) -> list[str]:
    """Ratios, and how far the numbers agree."""
    found = compared(group)
    if "largest_difference" in group:
        found += ["", f"Their latents differ by {group['largest_difference']:.0e} of the largest one, at most."]
    return found


def compared(group: dict[str, Any]) -> list[str]:
    """Seconds and the ratio to another row."""

    def cells(row: dict[str, Any]) -> list[str]:
        return [_seconds(row["seconds"]), _ratio(row["ratio"]), row["against"]]

    return _group(group, ["stream", "s per chunk", "ratio", "to"], cells)


def latency(group: dict[str, Any]) -> list[str]:
    """Seconds, frames a second and memory; the ratio is to the base's chunks beside it."""
    if "skipped" in group:
        return [f"{group['title']}: not measured, {group['skipped']}."]

    def cells(row: dict[str, Any]) -> list[str]:
        memory = [_gib(row.get("peak_bytes")), _gib(row.get("cache_bytes"))]
        if "seconds" not in row:
            return [row.get("skipped", ""), "", "", *memory, ""]
        rate = f"{row['frames'] / row['seconds']:.1f}"
        return [_seconds(row["seconds"]), rate, _ratio(row["ratio"]), *memory, str(row["chunks"])]

    header = ["stream", "s per chunk", "frames/s", "ratio to base", "peak GiB", "caches GiB", "chunks"]
    lines = [[name, *cells(row)] for name, row in group["rows"].items()]
    return [f"{group['title']}:", "", *_table(header, lines)]


WRITERS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "cost": cost,
    "split": split,
    "growth": growth,
    "options": compared,
    "cache": cache,
    "latency": latency,
}


def _seconds(value: float) -> str:
    return f"{value:.3f}"


def _gib(value: int | None) -> str:
    return "" if value is None else f"{value / GIB:.2f}"


def _ratio(quartiles: list[float]) -> str:
    low, middle, high = quartiles
    return f"{middle:.2f} ({low:.2f} - {high:.2f})"


def filled(text: str, results: Path = RESULTS) -> str:
    """A file's text with every section made anew; one without a result says so."""

    def section(found: re.Match[str]) -> str:
        name, table = found[1], found[2]
        file = results / f"speed-{name}.json"
        result = json.loads(file.read_text()) if file.exists() else {"tables": {}}
        there = ("split" if table == "cost" else table) in result["tables"]
        return f"<!-- speed:{name}:{table} -->\n{markdown(result, table) if there else 'Not measured.'}\n<!-- end -->"

    return re.sub(r"<!-- speed:([\w.-]+):(\w+) -->\n.*?<!-- end -->", section, text, flags=re.DOTALL)


if __name__ == "__main__":
    for path in FILES:
        path.write_text(filled(path.read_text()))
