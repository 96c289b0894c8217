"""Plots of the measurements."""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib as mpl
from cases import CASES
from questions import MAIN
from summary import Cells

mpl.use("Agg")
import matplotlib.pyplot as plt

SMOOTHED = 5
"""Chunks averaged in a curve."""


def plot_scores(cells: Cells, file: Path) -> None:
    """Bars of the main table: shares and correlations above, dB below."""
    in_db = [case for case in MAIN.cases if CASES[case].unit == "dB"]
    others = [case for case in MAIN.cases if CASES[case].unit != "dB"]
    arms = [arm for arm in MAIN.arms if arm.hints and all((case, arm.name) in cells for case in MAIN.cases)]
    figure, panels = plt.subplots(2, 1, figsize=(11, 6.4), layout="constrained")
    for axes, cases, label in zip(panels, (others, in_db), ("score", "dB"), strict=True):
        width = 0.8 / len(arms)
        for i, arm in enumerate(arms):
            found = [cells[case, arm.name] for case in cases]
            places = [place + (i - len(arms) / 2 + 0.5) * width for place in range(len(cases))]
            axes.bar(places, [f.mean for f in found], width, yerr=[f.half for f in found], label=arm.name, capsize=1.5)
        axes.set_xticks(range(len(cases)), cases, rotation=15, ha="right")
        axes.set_ylabel(label)
    panels[0].legend(ncols=len(arms), fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.18), frameon=False)
    figure.savefig(file, dpi=110)


def plot_drift(drift: dict, file: Path) -> None:
    """Drift and overlap over the chunks, means over streams."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained")
    for axes, what in zip(panels, ("drift", "overlap"), strict=True):
        for name, streams in drift["arms"].items():
            curve = [statistics.fmean(values) for values in zip(*(stream[what] for stream in streams), strict=True)]
            smooth = [statistics.fmean(curve[max(0, i + 1 - SMOOTHED) : i + 1]) for i in range(len(curve))]
            axes.plot(smooth, label=name)
        axes.set_xlabel("chunk")
        axes.set_ylabel(what)
    panels[0].legend(fontsize=8, frameon=False)
    figure.savefig(file, dpi=110)
