"""Write the measured tables into README.md, between their markers: ``python benchmarks/tables.py``.

Every number comes from a JSON file in ``benchmarks/results``; a test compares README.md with what this script makes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def overhead_table(path: Path) -> str:
    """One result of ``benchmarks/overhead.py`` as a Markdown table with a line on what was measured."""
    result: dict[str, Any] = json.loads(path.read_text())
    backbone = result["backbone"]
    compiled = ", blocks compiled" if result["compiled"] else ""
    lines = [
        f"{result['size']} (width {backbone['dim']}, {backbone['layers']} blocks, {result['control_layers']} context "
        f"blocks, random weights), {result['height']}x{result['width']}, {result['frames_per_chunk']} frames a chunk, "
        f"{result['device']}, {result['dtype']}, torch {result['torch']}{compiled}; "
        f"medians of {result['chunks']} chunks, with the quartiles of the ratios:",
        "",
        "| stream | s per chunk | of which VAE | ratio to base | ratio without VAE |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in result["rows"].items():
        lines.append(
            f"| {name} | {row['seconds']:.3f} | {row['vae_seconds']:.3f} | "
            f"{_ratio(row['ratio'])} | {_ratio(row['ratio_without_vae'])} |"
        )
    return "\n".join(lines)


def _ratio(quartiles: list[float]) -> str:
    low, middle, high = quartiles
    return f"{middle:.2f} ({low:.2f} - {high:.2f})"


def filled(readme: str) -> str:
    """README text with every ``<!-- overhead:NAME -->`` section made anew."""

    def section(found: re.Match[str]) -> str:
        table = overhead_table(RESULTS / f"overhead-{found[1]}.json")
        return f"<!-- overhead:{found[1]} -->\n{table}\n<!-- end -->"

    return re.sub(r"<!-- overhead:(\S+) -->\n.*?<!-- end -->", section, readme, flags=re.DOTALL)


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(filled(file.read_text()))
