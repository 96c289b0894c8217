"""What VACE is given in training: a pair of videos and a mask for every task family, and their compositions.

Preprocessing is VACE's own (ali-vilab/VACE vace/annotators): what is to be generated is gray, a control takes the place
of the gray, a kept frame of an extension stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vace_adapt.embedded.world.controls import CONTROLS
from vace_adapt.embedded.world.render import Clip, boxes
from vace_adapt.embedded.world.scene import PUPPET, SIZE

Array = np.ndarray[Any, Any]

GRAY = 127.5

Families = Mapping[str, float]
"""Task families and their shares."""

FAMILIES: Families = {
    "control": 0.46,
    "inpaint": 0.12,
    "outpaint": 0.09,
    "extension": 0.15,
    "inpaint+control": 0.06,
    "extension+control": 0.06,
    "outpaint+extension": 0.03,
    "control+control": 0.03,
}
"""All of VACE's."""

EDITS: Families = {
    "extension": 0.42,
    "inpaint": 0.22,
    "control": 0.12,
    "outpaint": 0.08,
    "inpaint+control": 0.08,
    "extension+control": 0.08,
}
"""Those that keep something, above all."""


@dataclass(frozen=True)
class Condition:
    """One input of VACE.

    Attributes:
        name: of the task, for sheets and counts.
        frames: float32 [T, 64, 64, 3], 0..255, 127.5 where nothing is given.
        mask: bool [T, 64, 64], True = generate.
    """

    name: str
    frames: Array
    mask: Array


def draw_condition(clip: Clip, random: Any, families: Families = FAMILIES) -> Condition:
    """A task of any of some families for a clip."""
    family = str(random.choice(list(families), p=np.array(list(families.values())) / sum(families.values())))
    parts = family.split("+")
    name, control = _control(clip, random) if "control" in parts else ("", None)
    if family == "control+control":
        second, other = _control(clip, random)
        name, control = f"{name}+{second}", np.where(np.arange(SIZE)[:, None] < random.integers(16, 48), control, other)
    area, mask = "", np.ones(clip.frames.shape[:3], bool)
    if "inpaint" in parts:
        area, mask = _inpainting(clip, random)
    if "outpaint" in parts:
        area, mask = _outpainting(clip, random)
    if "extension" in parts:
        kept, times = _extension(len(mask), random)
        made_there = mask if area else np.zeros_like(mask)
        mask = np.where(times[:, None, None], made_there, True)
        area = "+".join(filter(None, (area, kept)))
    background = np.float32(GRAY) if control is None else control.astype(np.float32)
    return Condition("+".join(filter(None, (area, name))), np.where(mask[..., None], background, clip.frames), mask)


def _control(clip: Clip, random: Any) -> tuple[str, Array]:
    names = list(CONTROLS)
    if not any(thing.kind == PUPPET for thing in clip.scene.things):
        names.remove("pose")
        name = str(random.choice(names))
    else:
        name = "pose" if random.random() < 0.3 else str(random.choice(names))
    return name, CONTROLS[name](clip)


def _inpainting(clip: Clip, random: Any) -> tuple[str, Array]:
    """One thing, the box around it, or a box anywhere."""
    shape = clip.frames.shape[:3]
    kind = random.choice(["object", "object_box", "box"])
    seen = clip.masks[int(random.integers(len(clip.masks)))]
    track = boxes(seen).astype(int)
    mask = np.zeros(shape, bool)
    if kind == "box":
        left, top = random.integers(0, 36, 2)
        width, height = random.integers(20, 40, 2)
        mask[:, top : top + height, left : left + width] = True
        return "inpaint", mask
    grow = int(random.integers(1, 5))
    for t, (left, top, right, bottom) in enumerate(track):
        if right > left:
            mask[t, max(0, top - grow) : bottom + grow, max(0, left - grow) : right + grow] = True
    if kind == "object":
        mask &= _grown(seen > 0.3, grow)
    return "inpaint", mask


def _outpainting(clip: Clip, random: Any) -> tuple[str, Array]:
    """Keep a part of the frame, at one or more borders."""
    mask = np.ones(clip.frames.shape[:3], bool)
    margins = random.integers(6, 24, 4) * (random.random(4) < 0.5)
    if not margins.any():
        margins[int(random.integers(4))] = 16
    left, top, right, bottom = (int(margin) for margin in margins)
    mask[:, top : SIZE - bottom, left : SIZE - right] = False
    return "outpaint", mask


def _extension(frames: int, random: Any) -> tuple[str, Array]:
    """Which frames are kept: bool [T]."""
    kept = np.zeros(frames, bool)
    kind = str(random.choice(["first", "last", "both", "firstclip", "lastclip", "keyframes"]))
    if kind in ("first", "both"):
        kept[0] = True
    if kind in ("last", "both"):
        kept[-1] = True
    length = int(random.integers(5, 33))
    if kind == "firstclip":
        kept[:length] = True
    if kind == "lastclip":
        kept[-length:] = True
    if kind == "keyframes":
        for _ in range(int(random.integers(1, 4))):
            at = int(random.integers(frames))
            kept[at : at + int(random.choice((1, 4, 8)))] = True
    return kind, kept


def _grown(mask: Array, by: int) -> Array:
    """Every frame's True region, `by` pixels wider to all sides."""
    grown = mask.copy()
    for axis in (1, 2):
        for shift in range(1, by + 1):
            grown |= np.roll(mask, shift, axis) | np.roll(mask, -shift, axis)
        mask = grown.copy()
    return grown
