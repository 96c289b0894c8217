"""Draw the figures of the documentation from the code: ``python figures/draw.py``.

What can be read from the code is: sizes from the plugins' settings, the blocks that get hints, the hooks, and what the
pipelines remember from their own caches. A test compares ``docs/figures`` with what this draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from architecture import architecture
from data_flow import data_flow
from timeline import timeline

DOCS = Path(__file__).parents[1] / "docs" / "figures"

FIGURES: Mapping[str, Callable[[], str]] = {
    "architecture": architecture,
    "data_flow": data_flow,
    "timeline": timeline,
}


def main() -> None:
    """Write every figure."""
    DOCS.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (DOCS / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
