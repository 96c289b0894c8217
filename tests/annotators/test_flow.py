from __future__ import annotations

import numpy as np
import pytest
from annotators.cuts import COUNTS, cut, moving
from hypothesis import given, settings

from vace_adapt.annotators import flow
from vace_adapt.annotators.find import load_annotator, make_annotator
from vace_adapt.annotators.flow import Flow, FlowSettings
from vace_adapt.annotators.flow_colours import colour_wheel, flow_to_colours
from vace_adapt.contract import Canvas
from vace_adapt.errors import InputError, SettingsError

FRAMES = moving(9)
VARIED = np.concatenate([moving(3, step=(1, 0)), moving(3, step=(-2, 3), seed=1), moving(3, step=(0, 0), seed=2)])


def made(frames, **options):
    return Flow(FlowSettings(**options))(frames, 0)


def shades(*vectors, full=1.0):
    """The colours of motions (right, down) in pixels."""
    return flow_to_colours(np.array([vectors], np.float32), full)[0].tolist()


def slow_colours(field, full):
    """The definition, pixel by pixel."""
    wheel = colour_wheel() / 255
    picture = np.zeros((*field.shape[:2], 3))
    for at in np.ndindex(field.shape[:2]):
        right, down = field[at].astype(float) / (full + 1e-5)
        place = (np.arctan2(-down, -right) / np.pi + 1) * 27
        first = int(place)
        hue = wheel[first] + (place - first) * (wheel[(first + 1) % 55] - wheel[first])
        length = np.hypot(right, down)
        picture[at] = 255 * (1 - length + length * hue if length <= 1 else 0.75 * hue)
    return picture


@pytest.fixture
def seen(monkeypatch):
    """What is shown: pairs of the flow and the length that is full colour."""
    calls = []

    def spy(field, full):
        calls.append((field, full))
        return flow_to_colours(field, full)

    monkeypatch.setattr(flow, "flow_to_colours", spy)
    return calls


def test_the_wheel():
    wheel = colour_wheel()
    assert wheel.shape == (55, 3)
    corners = {
        0: [255, 0, 0],
        15: [255, 255, 0],
        21: [0, 255, 0],
        25: [0, 255, 255],
        36: [0, 0, 255],
        49: [255, 0, 255],
    }
    assert {place: wheel[place].tolist() for place in corners} == corners
    between = {
        1: [255, 17, 0],
        16: [213, 255, 0],
        22: [0, 255, 63],
        26: [0, 232, 255],
        37: [19, 0, 255],
        54: [255, 0, 43],
    }
    assert {place: wheel[place].tolist() for place in between} == between


def test_the_four_directions():
    # right, down, left, up: places 0, 13.5, 27 and 40.5 of the wheel, rounded down
    assert shades((1, 0), (0, 1), (-1, 0), (0, -1)) == [[255, 0, 0], [255, 229, 0], [0, 209, 255], [88, 0, 255]]


def test_no_motion_is_white():
    assert shades((0, 0)) == [[255, 255, 255]]
    assert shades((0, 0), full=0.0) == [[255, 255, 255]]


def test_shorter_is_paler_and_longer_is_darker():
    assert shades((0.5, 0), (2, 0)) == [[255, 127, 127], [191, 0, 0]]


@pytest.mark.parametrize("angle", np.linspace(0, np.pi, 7))
def test_opposite_directions_are_opposite_places(angle):
    there, back = shades((np.cos(angle), np.sin(angle)), (-np.cos(angle), -np.sin(angle)))
    places = [np.abs(colour_wheel() - colour).sum(axis=1).argmin() for colour in (there, back)]
    assert abs(places[0] - places[1]) in (27, 28)


@pytest.mark.parametrize("full", [1.0, 3.0])
def test_colours_are_the_definition(full):
    field = np.random.default_rng(0).normal(size=(70, 16, 2)).astype(np.float32)
    assert np.abs(flow_to_colours(field, full) - (slow_colours(field, full) - 0.5)).max() < 0.51


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
@pytest.mark.parametrize("step", [(2, 1), (-1, 2), (0, -3)])
def test_a_known_shift_is_found(seen, preset, step):
    made(moving(3, 64, 96, step), preset=preset)
    for field, _ in seen:
        assert np.abs(np.median(field, axis=(0, 1)) - step).max() < 0.2


def test_presets_differ():
    assert len({made(FRAMES, preset=preset).tobytes() for preset in ("ultrafast", "fast", "medium")}) == 3


def test_a_picture_shows_how_the_frame_before_becomes_this_one(seen):
    frames = np.stack([moving(1)[0]] * 5)
    frames[3:, 12:36, 16:40] = frames[3:, 14:38, 19:43].copy()
    pictures = made(frames, first="still", range=4.0)
    assert [bool(np.abs(field).max() > 1) for field, _ in seen] == [False, False, False, True, False]
    assert [bool((picture < 200).any()) for picture in pictures] == [False, False, False, True, False]


def test_the_first_picture_as_in_vace():
    pictures = made(VARIED)
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])
    assert np.array_equal(made(VARIED, first="still")[1:], pictures[1:])


def test_first_still_is_white():
    assert (made(FRAMES, first="still")[0] == 255).all()
    assert (made(FRAMES[:1], first="still") == 255).all()


@pytest.mark.parametrize("paused", [False, True])
def test_first_next_needs_two_frames(paused):
    annotator = Flow(FlowSettings())
    if paused:
        annotator(FRAMES[:3], 0)
        annotator.pause()
    with pytest.raises(InputError) as caught:
        annotator(FRAMES[3:4], 3)
    assert str(caught.value) == "flow to the next frame needs two frames in the first call, got 1: set first: still"
    assert np.array_equal(annotator(FRAMES[3:], 3), made(FRAMES[3:]))


def test_range_frame(seen):
    made(VARIED)
    assert [full for _, full in seen] == [
        pytest.approx(np.hypot(*np.moveaxis(field, -1, 0)).max()) for field, _ in seen
    ]


def test_range_running(seen):
    made(VARIED, range="running")
    largest = [np.hypot(*np.moveaxis(field, -1, 0)).max() for field, _ in seen]
    assert [full for _, full in seen] == pytest.approx(list(np.maximum.accumulate(largest)))
    assert largest != sorted(largest)


def test_range_in_pixels(seen):
    made(VARIED, range=6)
    assert [full for _, full in seen] == [6.0] * 8


def test_a_pause_forgets_the_frame_but_not_the_range(seen):
    annotator = Flow(FlowSettings(range="running", first="still"))
    annotator(VARIED[:6], 0)
    largest = seen[-1][1]
    annotator.pause()
    assert (annotator(VARIED[6:7], 9) == 255).all()
    assert largest > 1
    assert seen[-1][1] == largest


@pytest.mark.parametrize(
    "options",
    [{}, {"range": "running"}, {"range": 3.0}, {"first": "still", "range": "running"}, {"preset": "medium"}],
    ids=str,
)
@given(counts=COUNTS)
@settings(max_examples=15, deadline=None)
def test_a_cut_changes_nothing(options, counts):
    if options.get("first") != "still":
        counts = [2, *counts]
    before = VARIED.copy()
    assert np.array_equal(cut(Flow(FlowSettings(**options)), VARIED, counts), made(VARIED, **options))
    assert np.array_equal(VARIED, before)


def test_a_cut_with_a_pause_is_noticed():
    annotator = Flow(FlowSettings(first="still"))
    pictures = [annotator(VARIED[:5], 0)]
    annotator.pause()
    pictures.append(annotator(VARIED[5:], 5))
    assert not np.array_equal(np.concatenate(pictures), made(VARIED, first="still"))


def test_what_it_says_of_itself():
    info = load_annotator("flow")
    assert (info.makes, info.reads) == ("control", "frames")
    assert [info.first_frames(FlowSettings(first=first)) for first in ("next", "still")] == [2, 1]
    assert info.state == "the last frame, and the largest motion so far"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"preset": "slow"}, "controls.annotators.flow.preset: must be 'ultrafast', 'fast' or 'medium', not 'slow'"),
        ({"range": "video"}, "controls.annotators.flow.range: must be 'frame', 'running' or a number of pixels above 0, not 'video'"),
        ({"range": 0}, "controls.annotators.flow.range: must be 'frame', 'running' or a number of pixels above 0, not 0"),
        ({"range": float("inf")}, "controls.annotators.flow.range: must be 'frame', 'running' or a number of pixels above 0, not inf"),
        ({"range": float("nan")}, "controls.annotators.flow.range: must be 'frame', 'running' or a number of pixels above 0, not nan"),
        ({"range": True}, "controls.annotators.flow.range: must be 'frame', 'running' or a number of pixels above 0, not True"),
        ({"range": [1]}, "controls.annotators.flow.range: must be 'frame', 'running' or a number of pixels above 0, not [1]"),
        ({"first": "black"}, "controls.annotators.flow.first: must be 'next' or 'still', not 'black'"),
        ({"firts": "next"}, "controls.annotators.flow.firts: unknown key; did you mean 'first'?"),
    ],
)  # fmt: skip
def test_wrong_options(options, text):
    with pytest.raises(SettingsError) as caught:
        make_annotator("flow", options, Canvas(48, 64))
    assert str(caught.value) == text
