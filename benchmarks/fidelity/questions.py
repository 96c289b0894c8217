"""Which arms and cases belong to which table, and what each table asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from arms import Arm
from cases import CASES
from students import students

STREAMS = tuple(Arm(name, pipeline=name) for name in students())
"""Every pipeline that ships a student, with its default options."""

BATCH = Arm("batch VACE", kind="batch")
CHANCE = Arm("chance", kind="chance")

CONTROL_CASES = ("depth", "scribble", "gray", "pose")


@dataclass(frozen=True)
class Table:
    """One comparison.

    Attributes:
        name: of its section and of its records.
        question: what it answers.
        arms: columns.
        cases: rows, keys of `CASES`.
        seeds: of the noise, for each case and clip.
        frames: of a clip.
        clips: at most, of each case.
    """

    name: str
    question: str
    arms: tuple[Arm, ...]
    cases: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    frames: int = 81
    clips: int = 8

    def clips_of(self, case: str) -> int:
        """How many are measured."""
        return min(self.clips, CASES[case].clips)

    def seeds_of(self, arm: Arm) -> tuple[int, ...]:
        """What draws no noise has one."""
        return self.seeds if arm.kind in ("batch", "stream") else self.seeds[:1]


MAIN = Table(
    "main",
    "How faithful is streaming VACE, compared with batch VACE on the same weights, clips and prompts?",
    (
        Arm("codec", kind="codec"),
        BATCH,
        *STREAMS,
        *(Arm(f"{arm.name}, no hints", hints=False, pipeline=arm.pipeline) for arm in STREAMS),
        CHANCE,
    ),
    tuple(CASES),
    seeds=(0, 1, 2),
    clips=max(case.clips for case in CASES.values()),
)


def of(pipeline: str, name: str, *, settings: Mapping[str, Any] = {}, **controls: Any) -> Arm:
    """A pipeline with some options."""
    return Arm(name, pipeline=pipeline, settings=settings, controls=controls)


longlive = partial(of, "longlive")
"""The pipeline on which options are compared that every pipeline has."""


SHORT = {"chunk_latents": 1}
"""LongLive's window and sink with chunks of one latent, which its student was not trained for."""

TABLES = (
    MAIN,
    Table(
        "references",
        "In what form should references enter, and should the base see them as well?",
        tuple(
            longlive(f"{form}{', slots' if slots else ''}", reference_form=form, reference_slots=slots)
            for form in ("cached", "joint")
            for slots in (0, 1)
        ),
        ("reference", "reference + depth", "reference + pose"),
    ),
    Table(
        "references only",
        "What do references at the chunk's own positions do, the plain form?",
        tuple(longlive(form, reference_form=form) for form in ("cached", "references_only")),
        ("reference",),
    ),
    Table(
        "hint reuse",
        "How much is lost where hints are made at every Nth of the four denoise steps only?",
        tuple(longlive(f"N = {every}", hint_reuse=every) for every in (1, 2, 4)),
        (*CONTROL_CASES, "reference"),
    ),
    Table(
        "chunk length",
        "What do chunks of one latent cost, for a student that was not trained for them?",
        (longlive("3 latents"), longlive("1 latent", settings=SHORT)),
        (*CONTROL_CASES, "reference + depth", "inpaint, kept"),
    ),
    Table(
        "context frames",
        "Do context frames help where a chunk is one latent frame (streamdiffusion)?",
        tuple(of("streamdiffusion", f"{frames} context frames", context_frames=frames) for frames in (0, 2, 5)),
        (*CONTROL_CASES, "reference + depth", "inpaint, kept"),
    ),
    Table(
        "official quirks",
        "Should a memory bank be kept with the accidents of the official code (memflow)?",
        tuple(
            of("memflow", "as meant" if not quirks else "official", settings={"official_quirks": quirks})
            for quirks in (False, True)
        ),
        (*CONTROL_CASES, "reference + depth", "inpaint, kept"),
    ),
    Table(
        "clean pass",
        "Hints in the clean pass or not?",
        tuple(longlive(policy, kv_policy=policy) for policy in ("hint_free", "with_hints")),
        (*CONTROL_CASES, "reference", "inpaint, kept"),
    ),
    Table(
        "scale",
        "How strong should hints be?",
        tuple(
            longlive(f"{scale:g}", scale={"control": scale, "references": scale})
            for scale in (0.5, 0.75, 1, 1.25, 1.5, 2)
        ),
        (*CONTROL_CASES, "layout", "inpaint, made", "reference"),
    ),
    Table(
        "masks",
        "Which frame of a mask should stand for its latent, and how much of a group should a key frame fill?",
        tuple(
            longlive(f"{mask}, {anchor}", mask_time=mask, anchor=anchor)
            for mask in ("group", "nearest")
            for anchor in ("group", "frame")
        ),
        ("inpaint, kept", "outpaint, kept", "first frame", "last frame", "first and last frame"),
    ),
    Table(
        "batch masks",
        "Why does batch VACE keep key frames worse than streams do? Its own rules for them, and those of the streams.",
        (
            BATCH,
            Arm("masks by group", kind="batch", controls={"mask_time": "group"}),
            Arm("and pictures by group", kind="batch", controls={"mask_time": "group", "anchor": "group"}),
        ),
        ("first frame", "last frame", "first and last frame"),
    ),
    Table(
        "section key frames",
        "Why does framepack keep a key frame in the midst of a section worse than others do? Stronger hints.",
        tuple(of("framepack", f"{scale:g}", scale={"control": scale, "references": scale}) for scale in (1, 1.5, 2)),
        ("first frame", "last frame", "first and last frame"),
    ),
    Table(
        "nothing given",
        "Should a chunk for which nothing is given run under VACE's 'nothing', or bare?",
        tuple(longlive(idle, idle=idle) for idle in ("bare", "nothing")),
        ("first frame", "last frame", "first and last frame"),
    ),
)
