"""Random inputs, chunk sizes and lengths: what must hold of all of them."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from composition.composing import levels, shapes
from hypothesis import given, settings
from hypothesis import strategies as st

from vace_adapt.annotators.find import make_annotator
from vace_adapt.composition.anchors import Anchors
from vace_adapt.composition.composer import Composed, Composer, Given
from vace_adapt.contract import Canvas
from vace_adapt.controls import ControlSettings
from vace_adapt.streaming.inbox import Changes, Inbox
from vace_adapt.time_map import TimeMap

SIZE = 16, 24
BLANK = 127.5
PATH = [{"frame": 0, "box": [0, 0, 0.5, 0.5]}, {"frame": 12, "box": [0.5, 0.5, 1, 1]}]
OPTIONS = {"flow": {"first": "still"}, "mask_box": {"path": PATH}}
STRUCTURES = (
    ({"annotator": "plain"},),
    (),
    ({"annotator": "gray"},),
    ({"annotator": "canny"}, {"annotator": "gray", "weight": 2.0}),
    (
        {"annotator": "plain", "region": (0, 0, 0.5, 1)},
        {"annotator": "flow", "region": (0.5, 0, 1, 1), "scale": 0.5},
    ),
    ({"annotator": "plain", "video": "depth"},),
    ({"annotator": "gray", "region": (0, 0.5, 1, 1)}, {"annotator": "plain", "video": "depth", "scale": 0.25}),
    ({"annotator": "plain", "region": (0, 0, 1, 0.5)},),
)


class Room(NamedTuple):
    """Outpainting, where the source is then seen, and its width."""

    outpaint: dict | None
    columns: slice
    width: int


ROOMS = (
    Room(None, slice(0, 24), 24),
    Room({"left": 0.5}, slice(8, 24), 16),
    Room({"right": 0.25, "inner": True}, slice(0, 18), 24),
)


class Case(NamedTuple):
    """A stream: its chunks, the first of which are `fed`, in which portions, under which mask, and its keyframes."""

    time: TimeMap
    chunks: int
    fed: int
    structure: tuple
    mask: str
    room: Room
    idle: str
    cuts: tuple[int, ...]
    anchors: tuple[int, ...]
    rule: str

    @property
    def frames(self) -> int:
        """Fed frames."""
        return self.time.pixel_start(self.fed)

    @property
    def videos(self) -> set[str]:
        """Names of what is fed; the frames themselves only where something uses them."""
        names = {structure.get("video", "input") for structure in self.structure}
        return names | {"input"} if self.mask != "none" or self.room.outpaint else names


@st.composite
def cases(draw) -> Case:
    time = TimeMap(draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    chunks = draw(st.integers(1, 4))
    fed = draw(st.integers(1, chunks))
    structure, room = draw(st.sampled_from(STRUCTURES)), draw(st.sampled_from(ROOMS))
    unmasked = structure in STRUCTURES[:2] if room.outpaint else bool(structure)
    mask = draw(st.sampled_from(["fed", "mask_box", *(["none"] if unmasked else [])]))
    cuts = draw(st.lists(st.integers(1, time.pixel_start(fed)), max_size=5, unique=True).map(sorted))
    anchors = draw(st.lists(st.integers(0, time.pixel_start(chunks) - 1), max_size=3, unique=True).map(tuple))
    idle, rule = draw(st.sampled_from(["bare", "nothing"])), draw(st.sampled_from(["group", "frame"]))
    return Case(time, chunks, fed, structure, mask, room, idle, tuple(cuts), anchors, rule)


def video(case: Case, seed: int = 0) -> np.ndarray:
    size = case.frames, SIZE[0], case.room.width, 3
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def masks(case: Case) -> np.ndarray:
    return np.where(video(case, 7)[..., 0] > 127, 255, 0).astype(np.uint8)


def composed(case: Case, frames: np.ndarray, cuts: tuple[int, ...], late: bool = False) -> list[Composed | None]:
    """All chunks; portions end at `cuts`, or frames come chunk by chunk as they are needed."""
    chosen = {"structure": case.structure, "outpaint": case.room.outpaint, "idle": case.idle, "anchor": case.rule}
    made_mask = {"annotator": "mask_box"} if case.mask == "mask_box" else {}
    controls = ControlSettings.model_validate({**chosen, "mask": made_mask, "annotators": options(case)})
    composer = Composer(controls, shapes(*SIZE, case.time), 1, 1, "cpu", False)
    inbox = Inbox(Changes(), Anchors(case.time, controls.anchor))
    for frame in case.anchors:
        picture = torch.full((1, 1, SIZE[0], case.room.width, 3), frame / 255)
        inbox.anchor(picture, torch.zeros(picture.shape[:-1]), lambda _, frame=frame: frame)
    videos = {"input": frames, "depth": video(case, 3)}
    mask = masks(case) if case.mask == "fed" else None

    def feed(start: int, stop: int) -> None:
        part = {name: torch.from_numpy(videos[name][start:stop])[None] for name in case.videos}
        fed = Given(part, None if mask is None else torch.from_numpy(mask[start:stop])[None])
        composer.check(fed)
        inbox.feed(fed, last=False)

    if not late:
        for start, stop in itertools.pairwise(sorted({0, case.frames, *cuts})):
            feed(start, stop)
    made = []
    for chunk in range(case.chunks):
        if late and chunk < case.fed:
            feed(case.time.pixel_start(chunk), case.time.pixel_start(chunk + 1))
        taken = inbox.take(case.time.pixels(chunk), lambda *_: None)
        assert taken.real == (case.time.pixels(chunk) if chunk < case.fed else 0)
        made.append(composer(chunk, taken.given, taken.anchored))
    assert inbox.frames == 0
    return made


def options(case: Case) -> dict:
    used = {case.mask, *(structure["annotator"] for structure in case.structure)}
    return {name: chosen for name, chosen in OPTIONS.items() if name in used}


# --- what every frame should be, reckoned from the whole video at once ------------------------------------------------


def annotated(name: str, frames: np.ndarray) -> np.ndarray:
    """The pictures of a whole video."""
    if name == "plain":
        return frames
    if name == "gray":
        return np.stack([np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)] * 3, axis=-1) for frame in frames])
    return make_annotator(name, OPTIONS.get(name, {}), Canvas(*frames.shape[1:3]))(frames, 0)


def steering(case: Case) -> np.ndarray:
    """What is shown where nothing is kept, [T, h, w, 3]: the mean by weight times scale, mid-gray where no region is."""
    height, width = SIZE[0], case.room.width
    total, shares = np.zeros((case.frames, height, width, 3)), np.zeros((height, width, 1))
    for structure in case.structure:
        seed = 3 if structure.get("video") == "depth" else 0
        left, top, right, bottom = structure.get("region", (0, 0, 1, 1))
        share = np.zeros((height, width, 1))
        share[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = structure.get(
            "weight", 1.0
        ) * structure.get("scale", 1.0)
        total += share * annotated(structure["annotator"], video(case, seed))
        shares += share
    return np.where(shares > 0, total / np.where(shares > 0, shares, 1), BLANK)


def own_anchor(case: Case, frame: int) -> int | None:
    """The keyframe that a frame shows."""
    if case.rule == "frame":
        return frame if frame in case.anchors else None
    near = [anchor for anchor in case.anchors if (anchor + 3) // 4 == (frame + 3) // 4]
    return min(near, key=lambda anchor: (abs(anchor - frame), anchor), default=None)


def expected(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels 0..255, the mask (1 = generate) and what is kept, of all frames on the canvas."""
    count, height, width = case.time.pixel_start(case.chunks), SIZE[0], case.room.width
    kept, shown = np.full((2, count, height, width, 3), BLANK)
    mask = np.ones((count, height, width))
    shown[: case.frames] = steering(case)
    if "input" in case.videos:
        kept[: case.frames] = video(case)
        chosen = {"fed": masks, "mask_box": lambda case: annotated("mask_box", video(case))}.get(case.mask)
        without = 0 if case.room.outpaint else 1
        mask[: case.frames] = without if chosen is None else chosen(case) / 255
    for frame in range(count):
        anchor = own_anchor(case, frame)
        if anchor is not None:
            kept[frame], mask[frame] = anchor, 0
    pictures = np.where(mask[..., None] == 1, shown, kept)
    placed, placed_kept = np.full((2, count, *SIZE, 3), BLANK)
    placed_mask = np.ones((count, *SIZE))
    seen = case.room.columns
    own = seen if case.room.width == SIZE[1] else slice(None)
    placed[:, :, seen], placed_kept[:, :, seen] = pictures[:, :, own], kept[:, :, own]
    placed_mask[:, :, seen] = mask[:, :, own]
    return placed, placed_mask, placed_kept


def check(case: Case, made: list[Composed | None]) -> None:
    """Every chunk is what it should be, pixel by pixel."""
    pictures, mask, kept = expected(case)
    for chunk, part in enumerate(made):
        span = slice(case.time.pixel_start(chunk), case.time.pixel_start(chunk + 1))
        alone = chunk >= case.fed and not any(span.start <= anchor < span.stop for anchor in case.anchors)
        assert (part is None) == (alone and case.idle == "bare")
        if part is None:
            continue
        np.testing.assert_allclose(levels(part.frames), pictures[span], atol=1e-3)
        if part.mask is None:
            assert (mask[span] == 1).all()
            assert part.source is None
        else:
            np.testing.assert_array_equal(part.mask[0, 0], mask[span])
            np.testing.assert_allclose(levels(part.source), kept[span], atol=1e-3)


# --- properties -------------------------------------------------------------------------------------------------------


def equal(a: Composed | None, b: Composed | None) -> bool:
    if a is None or b is None:
        return a is b
    pairs = zip(vars(a).values(), vars(b).values(), strict=True)
    return all(x is y or (x is not None and y is not None and torch.equal(x, y)) for x, y in pairs)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_portions_do_not_matter(case):
    frames = video(case)
    expected = composed(case, frames, ())
    one_by_one = composed(case, frames, tuple(range(1, len(frames))))
    for other in (composed(case, frames, case.cuts), one_by_one, composed(case, frames, (), late=True)):
        assert all(equal(a, b) for a, b in zip(expected, other, strict=True))


@settings(max_examples=120, deadline=None)
@given(cases())
def test_every_frame_is_used_exactly_once(case):
    check(case, composed(case, video(case), case.cuts))


ONE = Case(TimeMap(2, 1), 3, 2, STRUCTURES[0], "fed", ROOMS[0], "nothing", (), (6, 8), "group")
"""5 and 4 frames are fed, 4 more are not; both keyframes are in the group 5..8."""


@pytest.mark.parametrize("change", [
    {"rule": "frame"}, {"anchors": (8,)}, {"anchors": (6,)}, {"anchors": (6, 8, 9)}, {"mask": "mask_box"}, {"mask": "none"},
    {"structure": STRUCTURES[1]}, {"structure": STRUCTURES[2]}, {"structure": STRUCTURES[5]}, {"structure": STRUCTURES[7]},
    {"room": ROOMS[2]}, {"idle": "bare"},
])  # fmt: skip
def test_another_stream_is_told_apart(change):
    made = composed(ONE, video(ONE), ())
    check(ONE, made)
    with pytest.raises(AssertionError):
        check(ONE._replace(**change), made)


@pytest.mark.parametrize("name", ["swapped", "repeated"])
def test_a_frame_in_the_wrong_place_is_told_apart(name):
    wrong = video(ONE)
    wrong[[2, 3]] = wrong[[3, 2]] if name == "swapped" else wrong[[2, 2]]
    with pytest.raises(AssertionError):
        check(ONE, composed(ONE, wrong, ()))


@settings(max_examples=60, deadline=None)
@given(cases(), st.data())
def test_nothing_reaches_an_earlier_chunk(case, data):
    frames = video(case)
    at = data.draw(st.integers(0, len(frames) - 1))
    changed = frames.copy()
    changed[at] = 255 - changed[at]
    first = next(c for c in range(case.chunks) if case.time.pixel_start(c + 1) > at)
    before, after = composed(case, frames, case.cuts), composed(case, changed, case.cuts)
    assert all(equal(a, b) for a, b in zip(before[:first], after[:first], strict=True))
    if case.structure == STRUCTURES[0] and case.mask == "none" and not case.anchors and not case.room.outpaint:
        assert not equal(before[first], after[first])
