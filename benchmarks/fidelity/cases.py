"""What is measured: for every task, what is given, on which clips, and how what comes out is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scores

from vace_adapt.embedded.world.captions import caption
from vace_adapt.embedded.world.controls import CONTROLS
from vace_adapt.embedded.world.render import Clip, boxes, reference, render
from vace_adapt.embedded.world.scene import draw_scene

Array = np.ndarray[Any, Any]

HELD_OUT = 10_000
"""Seed of the first clip that is measured; no model was trained on seeds below 100 000."""


@dataclass(frozen=True)
class Given:
    """What a generation is given.

    Attributes:
        prompt: the caption.
        control: uint8 [T, 64, 64, 3], what steers; None for nothing.
        source: uint8 [T, 64, 64, 3], what is kept where the mask says so; None for nothing.
        mask: uint8 [T, 64, 64], 255 = generate; with a source only.
        references: uint8 [64, 64, 3] each.
        keyframes: pictures uint8 [n, 64, 64, 3] and the frame they begin at.
    """

    prompt: str
    control: Array | None = None
    source: Array | None = None
    mask: Array | None = None
    references: tuple[Array, ...] = ()
    keyframes: tuple[tuple[Array, int], ...] = ()


@dataclass(frozen=True)
class Case:
    """One task.

    Attributes:
        name: as the tables have it.
        give: makes what is given of a clip.
        score: frames, clip and given to a number; higher is better.
        unit: of the score.
        scene: further arguments of `draw_scene`.
        clips: how many are measured.
    """

    name: str
    give: Callable[[Clip], Given]
    score: Callable[[Array, Clip, Given], float]
    unit: str
    scene: dict[str, Any] = field(default_factory=dict)
    clips: int = 5

    def clip(self, number: int, frames: int = 81) -> Clip:
        """The clip of a number, the same for every arm."""
        return render(draw_scene(HELD_OUT + number, frames, **self.scene))


def _control(name: str) -> Callable[[Clip], Given]:
    return lambda clip: Given(caption(clip.scene), CONTROLS[name](clip))


def _inpaint(clip: Clip) -> Given:
    """The box around one thing is to be made anew, as the caption says."""
    mask = np.zeros(clip.frames.shape[:3], np.uint8)
    for frame, (left, top, right, bottom) in zip(mask, boxes(clip.masks[-1]).astype(int), strict=True):
        if right > left:
            frame[max(0, top - 3) : bottom + 3, max(0, left - 3) : right + 3] = 255
    return Given(caption(clip.scene), source=clip.frames, mask=mask)


def _outpaint(clip: Clip) -> Given:
    mask = np.full(clip.frames.shape[:3], 255, np.uint8)
    mask[:, :, 16:48] = 0
    return Given(caption(clip.scene), source=clip.frames, mask=mask)


def _inpaint_depth(clip: Clip) -> Given:
    return replace(_inpaint(clip), control=CONTROLS["depth"](clip))


def _keyframes(*places: int) -> Callable[[Clip], Given]:
    def give(clip: Clip) -> Given:
        chosen = tuple((clip.frames[place % len(clip.frames)][None], place % len(clip.frames)) for place in places)
        return Given(caption(clip.scene), keyframes=chosen)

    return give


def _reference(control: str | None = None) -> Callable[[Clip], Given]:
    def give(clip: Clip) -> Given:
        frames = None if control is None else CONTROLS[control](clip)
        return Given(caption(clip.scene, appearance=False), frames, references=(reference(clip.scene.things[0]),))

    return give


ONE, PUPPET = {"things": 1}, {"things": 1, "puppet": True}

LOOKS = 24
"""Clips of the tasks that are about looks: a score there is mostly that of two colours, and so varies more. One clip's
standard deviation is 0.22, so 24 clips tell a mean to 0.1."""

CASES = {
    case.name: case
    for case in (
        Case("depth", _control("depth"), scores.overlap, "IoU"),
        Case("canny", _control("canny"), scores.edges, "correlation"),
        Case("softedge", _control("softedge"), scores.edges, "correlation"),
        Case("scribble", _control("scribble"), scores.edges, "correlation"),
        Case("flow", _control("flow"), scores.motion, "correlation"),
        Case("gray", _control("gray"), scores.luma, "correlation"),
        Case("pose", _control("pose"), scores.overlap, "IoU", PUPPET),
        Case("layout", _control("layout"), scores.box_overlap, "IoU", ONE),
        Case("inpaint, kept", _inpaint, scores.kept, "dB"),
        Case("inpaint, made", _inpaint, scores.made, "share", ONE),
        Case("inpaint + depth", _inpaint_depth, scores.overlap, "IoU"),
        Case("outpaint, kept", _outpaint, scores.kept, "dB"),
        Case("first frame", _keyframes(0), scores.anchored, "dB"),
        Case("last frame", _keyframes(-1), scores.anchored, "dB"),
        Case("first and last frame", _keyframes(0, -1), scores.anchored, "dB"),
        Case("reference", _reference(), scores.appearance, "similarity", ONE, LOOKS),
        Case("reference + depth", _reference("depth"), scores.appearance, "similarity", ONE, LOOKS),
        Case("reference + pose", _reference("pose"), scores.appearance, "similarity", PUPPET, LOOKS),
    )
}
