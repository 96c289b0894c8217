"""What the inputs of a stream amount to: the task they make, what each of them feeds, and what is not used."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vace_adapt.annotators.find import load_annotator
from vace_adapt.composing import MAIN, Structure
from vace_adapt.controls import ControlSettings
from vace_adapt.scale import HintScale, Schedule
from vace_adapt.time_map import TimeMap

INACTIVE, REACTIVE, MASK = "inactive 0-15", "reactive 16-31", "mask 32-95"
"""Channels of the control latents (ali-vilab/VACE vace/models/wan/wan_vace.py ``vace_encode_frames``)."""


@dataclass(frozen=True)
class Facts:
    """What is known of a stream's inputs.

    Attributes:
        settings: options of the control.
        scale: of the stream, now.
        time: of the stream.
        frames: how many are made in all; None without an end.
        videos: names of the videos that are fed.
        mask: whether a mask is fed.
        references: role and scale of each reference.
        fed: frames that wait; None for as many as are made.
        anchors: frames on which a keyframe or a clip stands.
        next_chunk: number of the chunk that is made next.
    """

    settings: ControlSettings
    scale: HintScale
    time: TimeMap
    frames: int | None = None
    videos: frozenset[str] = frozenset()
    mask: bool = False
    references: tuple[tuple[str | None, float], ...] = ()
    fed: int | None = None
    anchors: tuple[int, ...] = ()
    next_chunk: int = 0


@dataclass(frozen=True)
class Use:
    """One input, the channels of the control latents or the rows it feeds, and the chunks it reaches."""

    input: str
    feeds: str
    chunks: str


@dataclass(frozen=True)
class Description:
    """What `describe` found; printed, it is a table.

    Attributes:
        task: in words; ``text`` where nothing controls.
        uses: every input that is used.
        ignored: everything given that is not used, each with its reason.
    """

    task: str
    uses: tuple[Use, ...]
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        rows = [("input", "feeds", "chunks"), *((use.input, use.feeds, use.chunks) for use in self.uses)]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        shown = table if self.uses else []
        ignored = [f"ignored: {line}" for line in self.ignored]
        return "\n".join([f"task: {self.task}", *shown, *ignored])

    def plain(self) -> dict[str, Any]:
        """The same as plain containers."""
        return asdict(self)


def describe(facts: Facts) -> Description:
    """Say what the inputs amount to. It looks at them as the composer does, and changes nothing."""
    return Description(" + ".join(_task(facts)) or "text", tuple(_uses(facts)), tuple(_ignored(facts)))


# --- the task ---------------------------------------------------------------------------------------------------------


def _task(facts: Facts) -> Iterator[str]:
    settings = facts.settings
    if heard := [role for role, scale in facts.references if scale and _acts(facts, "references")]:
        roles = ", ".join(role for role in heard if role)
        yield ("reference" if len(heard) == 1 else f"{len(heard)} references") + (f" ({roles})" if roles else "")
    if not _acts(facts, "control"):
        return
    for structure in settings.structure:
        if _steers(structure, facts):
            yield _STEERS.get(structure.annotator, structure.annotator)
    if mask := _mask(facts):
        yield f"inpainting ({mask})"
    if settings.outpaint is not None and (MAIN in facts.videos or facts.anchors):
        yield f"outpainting ({', '.join(_sides(facts))})"
    if facts.anchors:
        yield _extension(facts)


_STEERS = {"plain": "control video"}


def _extension(facts: Facts) -> str:
    """First and last frame or clip, or keyframes in between."""
    places = []
    for first, last in _runs(facts.anchors):
        at_end = facts.frames is not None and last == facts.frames - 1
        place = "first" if first == 0 else "last" if at_end else "key"
        places.append(place + (" frame" if first == last else " clip"))
    counted = {place: places.count(place) for place in places}
    return f"extension ({', '.join(p if n == 1 else f'{n} {p}s' for p, n in counted.items())})"


def _runs(frames: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last of every run of consecutive frames."""
    runs = []
    for _, members in itertools.groupby(enumerate(sorted(frames)), key=lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in members]
        runs.append((numbers[0], numbers[-1]))
    return runs


# --- what feeds what --------------------------------------------------------------------------------------------------


def _uses(facts: Facts) -> Iterator[Use]:
    every = _chunks(facts, 0, None)
    for i, (role, scale) in enumerate(facts.references):
        if scale and _acts(facts, "references"):
            slot = " and a cache slot" if facts.settings.reference_slots else ""
            yield Use(f"reference {i}" + (f" ({role})" if role else ""), f"its own context rows{slot}", every)
    if not _acts(facts, "control"):
        return
    fed = every if facts.fed is None else _chunks_of_fed(facts, facts.fed)
    kept = _mask(facts) is not None or facts.settings.outpaint is not None
    if MAIN in facts.videos and kept:
        yield Use("input, where it is kept", INACTIVE, fed)
    for structure in facts.settings.structure:
        if _steers(structure, facts):
            yield Use(_label(structure), REACTIVE, fed if _reads(structure) else every)
    if mask := _mask(facts):
        yield Use(f"mask ({mask})", MASK, fed)
    if facts.settings.outpaint is not None and (MAIN in facts.videos or facts.anchors):
        yield Use(f"canvas ({', '.join(_sides(facts))})", MASK, fed if MAIN in facts.videos else every)
    for first, last in _runs(facts.anchors):
        name = f"keyframe at frame {first}" if first == last else f"clip at frames {first}-{last}"
        yield Use(name, f"{INACTIVE}, {MASK}", _chunks(facts, first, last))


def _chunks(facts: Facts, first: int, last: int | None) -> str:
    """The chunks that hold some frames; with ``anchor: group``, and the frames they fill there."""
    time = facts.time
    if last is None:
        if facts.frames is None:
            return f"{facts.next_chunk} and later"
        end = time.chunk_of(facts.frames - 1)
        return _span(min(facts.next_chunk, end), end)
    chunks = _span(time.chunk_of(first), time.chunk_of(last))
    filled = [time.group(frame) for frame in (first, last)]
    start, stop = filled[0].start, filled[1].stop
    if facts.settings.anchor == "frame" or (start, stop) == (first, last + 1):
        return chunks
    return f"{chunks} (filling frames {start}-{stop - 1})"


def _chunks_of_fed(facts: Facts, fed: int) -> str:
    """The chunks that the waiting frames fill."""
    start = facts.next_chunk
    return _span(start, facts.time.chunk_of(facts.time.pixel_start(start) + fed - 1))


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _label(structure: Structure) -> str:
    video = "" if structure.video == MAIN else f" of {structure.video}"
    region = "" if structure.region is None else f" in {list(structure.region)}"
    scale = "" if structure.scale == 1 else f", scale {structure.scale:g}"
    return f"{_STEERS.get(structure.annotator, structure.annotator)}{video}{region}{scale}"


# --- what is not used -------------------------------------------------------------------------------------------------


def _ignored(facts: Facts) -> Iterator[str]:
    settings = facts.settings
    for i, (_, scale) in enumerate(facts.references):
        if not (scale and _acts(facts, "references")):
            yield f"reference {i}: its scale is 0"
    if not _acts(facts, "control") and (facts.videos or facts.anchors):
        yield "frames, masks and keyframes: controls.scale lets no control act"
    if settings.outpaint is not None and not (MAIN in facts.videos or facts.anchors):
        yield "controls.outpaint: there is nothing to make room around"
    for structure in settings.structure:
        if not _heard(facts, structure.scale, structure.schedule):
            yield f"{_label(structure)}: its scale is 0"
        elif not _steers(structure, facts) and structure != Structure(annotator="plain"):
            yield f"{_label(structure)}: the video {structure.video!r} is not fed"
    used = {structure.annotator for structure in settings.structure} | {settings.mask.annotator}
    for name in settings.annotators:
        if name not in used:
            yield f"controls.annotators.{name}: nothing uses the annotator {name}"
    if _mask(facts) is None and settings.mask.changes:
        yield "controls.mask: there is no mask to change"
    if settings.mask.annotator is not None and _mask(facts) is None:
        yield f"controls.mask.annotator={settings.mask.annotator}: the video {MAIN!r} is not fed"
    kept = _mask(facts) is not None or settings.outpaint is not None or facts.anchors
    if settings.preserve != "model" and not kept:
        yield f"controls.preserve={settings.preserve}: nothing is kept"


def _steers(structure: Structure, facts: Facts) -> bool:
    """Whether a control has pictures; one whose annotator reads nothing has its own."""
    if not _heard(facts, structure.scale, structure.schedule):
        return False
    if structure.video == MAIN and facts.settings.outpaint is not None and _mask(facts) is None and _reads(structure):
        return False
    return not _reads(structure) or structure.video in facts.videos


def _acts(facts: Facts, which: Literal["control", "references"]) -> bool:
    """Whether the stream's scale lets control or references act in any chunk to come."""
    scale, control = facts.scale, which == "control"
    schedule = scale.control_schedule if control else scale.references_schedule
    return not scale.silent and _heard(facts, scale.control if control else scale.references, schedule)


def _heard(facts: Facts, scale: float, schedule: Schedule) -> bool:
    """Whether a scale is over 0 at any step of any chunk to come."""
    start = facts.next_chunk
    last = max([start, *(chunk for chunk, _ in schedule.chunks)])
    if facts.frames is not None:
        last = min(last, max(start, facts.time.chunk_of(facts.frames - 1)))
    steps = range(schedule.last_step + 2)
    return scale > 0 and any(schedule.at(chunk, step) for chunk in range(start, last + 1) for step in steps)


def _reads(structure: Structure) -> bool:
    return load_annotator(structure.annotator).reads == "frames"


def _mask(facts: Facts) -> str | None:
    """Where the mask comes from."""
    if facts.mask:
        return "mask fed"
    return facts.settings.mask.annotator if MAIN in facts.videos else None


def _sides(facts: Facts) -> list[str]:
    outpaint = facts.settings.outpaint
    assert outpaint is not None
    return [side for side in ("left", "right", "up", "down") if getattr(outpaint, side) > 0]
