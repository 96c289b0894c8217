"""Loss curves of the stages, beside their states: ``losses.png``."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

WINDOW = 50
"""Steps that a point of a curve is the mean of."""

COLUMNS = 4


def draw_curves(folder: Path) -> Path:
    """One panel for each stage that has losses.

    Args:
        folder: of the recipe; every ``STAGE/losses.json`` below it is drawn.

    Returns:
        The picture.
    """
    records = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/losses.json"))}
    rows = -(-len(records) // COLUMNS)
    figure, panels = plt.subplots(rows, COLUMNS, figsize=(4 * COLUMNS, 3 * rows), layout="constrained", squeeze=False)
    for panel in panels.flat[len(records) :]:
        panel.axis("off")
    for panel, (stage, record) in zip(panels.flat, records.items(), strict=False):
        for name, losses in record["losses"].items():
            means = [sum(losses[i : i + WINDOW]) / len(losses[i : i + WINDOW]) for i in range(0, len(losses), WINDOW)]
            shares = [(i + 0.5) / len(means) * record["step"] for i in range(len(means))]
            panel.plot(shares, means, label=name)
        panel.set_title(f"{stage}, {record['seconds'] / 60:.0f} min", fontsize=9)
        panel.set_yscale("log")
        panel.legend(fontsize=7)
    picture = folder / "losses.png"
    figure.savefig(picture, dpi=110)
    plt.close(figure)
    return picture
