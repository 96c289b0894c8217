"""Random inputs, chunk sizes and lengths: what must hold of all of them."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from composition.composing import shapes
from hypothesis import given, settings
from hypothesis import strategies as st

from vace_adapt.composition.anchors import Anchors
from vace_adapt.composition.composer import Composed, Composer, Given
from vace_adapt.controls import ControlSettings
from vace_adapt.streaming.inbox import Changes, Inbox
from vace_adapt.time_map import TimeMap

SIZE = 16, 24
STRUCTURES = st.sampled_from(
    [
        ("plain",),
        (),
        ("gray",),
        ("canny", {"annotator": "gray", "weight": 2.0}),
        (
            {"annotator": "plain", "region": (0, 0, 0.5, 1)},
            {"annotator": "flow", "region": (0.5, 0, 1, 1), "scale": 0.5},
        ),
    ]
)


class Case(NamedTuple):
    """A stream: its chunks, what is fed in which portions, and its keyframes."""

    time: TimeMap
    chunks: int
    structure: tuple
    masked: bool
    cuts: tuple[int, ...]
    anchors: tuple[int, ...]
    rule: str


@st.composite
def cases(draw) -> Case:
    time = TimeMap(draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    chunks = draw(st.integers(1, 4))
    frames = time.pixel_start(chunks)
    structure = draw(STRUCTURES)
    cuts = draw(st.lists(st.integers(1, frames), max_size=5, unique=True).map(lambda c: tuple(sorted(c))))
    anchors = draw(st.lists(st.integers(0, frames - 1), max_size=3, unique=True).map(tuple))
    rule = draw(st.sampled_from(["group", "frame"]))
    return Case(time, chunks, structure, not structure or draw(st.booleans()), cuts, anchors, rule)


def video(case: Case, seed: int = 0) -> np.ndarray:
    count = case.time.pixel_start(case.chunks)
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


def masks(case: Case) -> np.ndarray:
    return np.where(video(case, 7)[..., 0] > 127, 255, 0).astype(np.uint8)


def composed(case: Case, frames: np.ndarray, cuts: tuple[int, ...], late: int | None = None) -> list[Composed | None]:
    """All chunks; portions end at `cuts`, or frames come chunk by chunk as they are needed where `late` is given."""
    controls = ControlSettings.model_validate(
        {"structure": case.structure, "anchor": case.rule, "annotators": {"flow": {"first": "still"}}}
    )
    composer = Composer(controls, shapes(*SIZE, case.time), 1, 1, "cpu", False)
    inbox = Inbox(Changes(), Anchors(case.time, controls.anchor))
    for frame in case.anchors:
        picture = torch.full((1, 1, *SIZE, 3), frame / 255)
        inbox.anchor(picture, torch.zeros((1, 1, *SIZE)), lambda _, frame=frame: frame)
    bounds = sorted({0, len(frames), *cuts})
    mask = masks(case) if case.masked else None

    def feed(start: int, stop: int) -> None:
        part = torch.from_numpy(frames[start:stop])[None]
        kept = None if mask is None else torch.from_numpy(mask[start:stop])[None]
        inbox.feed(Given({"input": part}, kept), last=False)

    if late is None:
        for start, stop in itertools.pairwise(bounds):
            feed(start, stop)
    made = []
    for chunk in range(case.chunks):
        if late is not None:
            feed(case.time.pixel_start(chunk), case.time.pixel_start(chunk + 1))
        taken = inbox.take(case.time.pixels(chunk), lambda *_: None)
        assert taken.real == case.time.pixels(chunk)
        made.append(composer(chunk, taken.given, taken.anchored))
    assert inbox.frames == 0
    return made


def equal(a: Composed | None, b: Composed | None) -> bool:
    if a is None or b is None:
        return a is b
    pairs = zip(vars(a).values(), vars(b).values(), strict=True)
    return all(x is y or (x is not None and y is not None and torch.equal(x, y)) for x, y in pairs)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_portions_do_not_matter(case):
    frames = video(case)
    expected = composed(case, frames, ())
    one_by_one = composed(case, frames, tuple(range(1, len(frames))))
    for other in (composed(case, frames, case.cuts), one_by_one, composed(case, frames, (), late=0)):
        assert all(equal(a, b) for a, b in zip(expected, other, strict=True))


@settings(max_examples=60, deadline=None)
@given(cases())
def test_every_frame_is_used_exactly_once(case):
    """Frame by frame: the anchor's picture on anchored frames; else the video's where it is kept, or is the control."""
    made = composed(case, video(case), case.cuts)
    frames, mask = video(case), masks(case)
    for chunk, part in enumerate(made):
        start = case.time.pixel_start(chunk)
        levels = ((part.frames[0] + 1) * 127.5).permute(1, 2, 3, 0).numpy()
        for t in range(case.time.pixels(chunk)):
            if part.mask is not None and not part.mask[0, 0, t].any() and (levels[t] == levels[t, 0, 0]).all():
                assert round(float(levels[t, 0, 0, 0])) in case.anchors
                continue
            assert start + t not in case.anchors
            kept = mask[start + t] == 0 if case.masked else np.zeros(SIZE, bool)
            kept = np.ones(SIZE, bool) if case.structure == ("plain",) else kept
            np.testing.assert_allclose(levels[t][kept], frames[start + t][kept], atol=1e-3)


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
    if case.structure == ("plain",) and not case.anchors:
        assert not equal(before[first], after[first])
