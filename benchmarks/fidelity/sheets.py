"""Contact sheets of what was measured, with fixed clips and seeds: ``python benchmarks/fidelity/sheets.py``.

Rows of a task: the truth, what is given, batch VACE, streaming, streaming without hints; the clips are the first of
those that are measured, the seed is the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from batch import vace_inputs
from cases import CASES, LOOKS, Case, Given
from convolution import OneDnn
from PIL import Image, ImageDraw
from questions import MAIN

Array = np.ndarray[Any, Any]

FRAMES = (0, 16, 32, 48, 64, 80)
SHOWN, LOOKS_SHOWN = 2, 4
"""Clips of a task, and of one that is about looks."""

ACROSS = 2
ENLARGED = 2
DOCS = Path(__file__).parents[2] / "docs" / "sheets"


def main() -> None:
    """One sheet for each task."""
    DOCS.mkdir(parents=True, exist_ok=True)
    for case in CASES.values():
        name = case.name.replace(", ", "_").replace(" + ", "_").replace(" ", "_")
        Image.fromarray(_sheet(case)).quantize(256).save(DOCS / f"{name}.png")


def _sheet(case: Case) -> Array:
    with OneDnn():
        shown = [_column(case, clip) for clip in range(LOOKS_SHOWN if case.clips == LOOKS else SHOWN)]
    return np.concatenate([np.concatenate(row, axis=1) for row in zip(*[iter(shown)] * ACROSS, strict=True)])


def _column(case: Case, number: int) -> Array:
    """Every row of one clip."""
    clip = case.clip(number)
    given = case.give(clip)
    rows = {"truth": clip.frames, "given": _given(given, len(clip.frames))}
    for arm in MAIN.arms:
        if arm.kind in ("batch", "stream"):
            rows[arm.name] = arm.frames(case, given, number, 0)
    return np.concatenate([_row(name, frames) for name, frames in rows.items()])


def _given(given: Given, frames: int) -> Array:
    video, _ = vace_inputs(given, frames)
    video = video.astype(np.uint8)
    for i, reference in enumerate(given.references):
        video[FRAMES[i]] = reference
    return video


def _row(name: str, frames: Array) -> Array:
    strip = Image.fromarray(np.concatenate([frames[i] for i in FRAMES], axis=1))
    strip = strip.resize((strip.width * ENLARGED, strip.height * ENLARGED), Image.Resampling.NEAREST)
    labelled = Image.new("RGB", (strip.width + 8, strip.height + 14), "white")
    labelled.paste(strip, (0, 14))
    ImageDraw.Draw(labelled).text((2, 1), name, fill="black")
    return np.asarray(labelled)


if __name__ == "__main__":
    main()
