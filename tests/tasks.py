"""The task table of the README, and files to run its commands on."""

from __future__ import annotations

import json
import re
import shlex
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from support import ROOT

from vace_adapt.video.read import probe, read_frames
from vace_adapt.video.write import VideoWriter

CLIP = ROOT / "vace_adapt" / "embedded" / "clip"
TABLE = re.search(r"<!-- tasks -->\n(.*?)<!-- end -->", (ROOT / "README.md").read_text(), flags=re.DOTALL)


class Task(NamedTuple):
    """A row: its title, its overrides, and what ``explain`` answers."""

    title: str
    overrides: list[str]
    inferred: str


def tasks() -> list[Task]:
    """Every row."""
    assert TABLE is not None
    rows = [re.fullmatch(r"\| (.*) \| `(.*)` \| (.*) \|", line) for line in TABLE[1].splitlines()[2:]]
    return [Task(row[1], shlex.split(row[2]), row[3]) for row in rows if row]


def write_files(folder: Path) -> None:
    """The files the table speaks of: 21 frames of the bundled clip and what goes with them."""
    for name in ("video", "depth", "mask"):
        write_video(folder / f"{name}.mp4", frames(CLIP / f"{name}.mp4")[:21])
    write_video(folder / "clip.mp4", frames(CLIP / "video.mp4")[30:35])
    mask = np.where(frames(CLIP / "mask.mp4")[0] > 127, 255, 0).astype(np.uint8)
    Image.fromarray(mask).save(folder / "mask.png")
    for name in "abc":
        Image.open(CLIP / "reference.png").save(folder / f"{name}.png")
    (folder / "people.json").write_text(json.dumps(people(21)))


def people(count: int) -> dict:
    """One walking person of 18 OpenPose points, in frames of 96x160."""
    points = [(0, -30), (0, -20), (-8, -20), (-12, -8), (-12, 4), (8, -20), (12, -8), (12, 4), (-5, 4), (-6, 18),
              (-7, 30), (5, 4), (6, 18), (7, 30), (-2, -32), (2, -32), (-4, -31), (4, -31)]  # fmt: skip
    made = []
    for t in range(count):
        flat = [value for x, y in points for value in (60 + 2 * t + x, 50 + y, 1.0)]
        made.append({"canvas_height": 96, "canvas_width": 160, "people": [{"pose_keypoints_2d": flat}]})
    return made  # type: ignore[return-value]


def frames(path: Path) -> np.ndarray:
    info = probe(path)
    return np.stack(list(read_frames(info, info.height, info.width)))


def write_video(path: Path, pictures: np.ndarray) -> None:
    writer = VideoWriter(path, *pictures.shape[1:3], Fraction(16), 10)
    writer.write(pictures)
    writer.close()
