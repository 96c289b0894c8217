"""What tests of ``vace-adapt run`` share: small videos in, the files of a run folder out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from vace_adapt.video.write import VideoWriter

SMALL = ["height=32", "width=48", "device=cpu"]


def write(path: Path, frames: int, height: int = 32, width: int = 48, value: int | None = None) -> Path:
    writer = VideoWriter(path, height, width, Fraction(10), 10)
    pixels = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    writer.write(pixels if value is None else np.full_like(pixels, value))
    writer.close()
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
