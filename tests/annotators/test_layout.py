from __future__ import annotations

import numpy as np
import pytest
from annotators.cuts import COUNTS, cut
from golden_annotators import golden
from hypothesis import given, settings
from hypothesis import strategies as st

from vace_adapt.annotators import layout
from vace_adapt.annotators.find import load_annotator, make_annotator
from vace_adapt.annotators.label_colours import label_colour, object_colour
from vace_adapt.annotators.layout import LayoutSettings, vace_box
from vace_adapt.contract import Canvas
from vace_adapt.errors import SettingsError

HEIGHT, WIDTH = 64, 96
RED = (255, 0, 0)


def fractions(left, top, right, bottom):
    return [left / WIDTH, top / HEIGHT, right / WIDTH, bottom / HEIGHT]


def point(frame, *pixels):
    return {"frame": frame, "box": fractions(*pixels)}


def gray_frames(count, height=HEIGHT, width=WIDTH):
    return np.full((count, height, width, 3), 128, np.uint8)


def made(count, *objects, start=0, **options):
    annotator = make_annotator("layout", {"objects": list(objects), **options}, Canvas(HEIGHT, WIDTH))
    return annotator(gray_frames(count), start)


def edges(picture):
    """The outermost drawn pixels: left, top, right, bottom."""
    rows, columns = np.nonzero((picture != 255).any(axis=-1))
    return columns.min(), rows.min(), columns.max(), rows.max()


MOVE = {"path": [point(0, 4, 6, 24, 30), point(8, 60, 30, 92, 60)]}
MOVE_RED = {"path": [point(0, 50, 5, 90, 25), point(4, 10, 20, 30, 60)], "colour": RED}


@pytest.mark.parametrize(("call", "moving", "count"), [("bbox", MOVE, 9), ("bbox_color", MOVE_RED, 5)])
def test_as_vace_is_vaces_own(call, moving, count):
    expected = golden("layout")[f"output.{call}"]
    assert np.array_equal(made(count, moving, as_vace=True), expected)
    assert not np.array_equal(made(count, moving), expected)


def test_vace_stops_one_step_short():
    start, end = (4, 6, 24, 30), (60, 30, 92, 60)
    assert vace_box(start, end, 0, 9) == start
    assert vace_box(start, end, 8, 9) == (53, 27, 83, 56)
    assert vace_box(start, end, 9, 9) == end


@given(
    start=st.tuples(*[st.integers(0, 900)] * 4), end=st.tuples(*[st.integers(0, 900)] * 4), count=st.integers(1, 200)
)
@settings(max_examples=50, deadline=None)
def test_vace_boxes_are_near_the_line(start, end, count):
    for frame in (0, count // 2, count - 1):
        box = vace_box(start, end, frame, count)
        exact = [a + (b - a) * frame / count for a, b in zip(start, end, strict=True)]
        assert np.abs(np.subtract(box, exact)).max() < 2.01


def test_as_vace_stands_still_before_and_after():
    later = {"path": [point(3, 4, 6, 24, 30), point(6, 60, 30, 92, 60)]}
    pictures = made(10, later, as_vace=True)
    assert np.array_equal(
        pictures[3:7], made(4, {"path": [{**p, "frame": p["frame"] - 3} for p in later["path"]]}, as_vace=True)
    )
    assert all(np.array_equal(picture, pictures[3]) for picture in pictures[:3])
    assert all(np.array_equal(picture, pictures[6]) for picture in pictures[7:])
    assert not np.array_equal(pictures[5], pictures[6])


def test_as_vace_one_point_does_not_move():
    assert np.array_equal(made(2, {"path": [MOVE["path"][0]]}, as_vace=True), made(2, {"path": [MOVE["path"][0]]}))


def test_the_ends_of_a_path_are_hit():
    pictures = made(9, MOVE, thickness=1)
    assert edges(pictures[0]) == (4, 6, 24, 30)
    assert edges(pictures[4]) == (32, 18, 58, 45)
    assert edges(pictures[8]) == (60, 30, 92, 60)


def test_a_path_of_three_points_and_beyond_its_ends():
    path = [point(2, 10, 10, 20, 20), point(4, 30, 10, 40, 20), point(5, 30, 40, 40, 50)]
    found = [edges(picture) for picture in made(8, {"path": path}, thickness=1)]
    first, last = (10, 10, 20, 20), (30, 40, 40, 50)
    assert found == [first, first, first, (20, 10, 30, 20), (30, 10, 40, 20), last, last, last]


def test_a_picture():
    picture = made(1, {"path": [point(0, 10, 10, 20, 20)]}, thickness=1)[0]
    expected = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    expected[10:21, 10:21] = 0
    expected[11:20, 11:20] = 255
    assert np.array_equal(picture, expected)


def test_thickness():
    still = {"path": [point(0, 20, 20, 40, 40)]}
    assert np.array_equal(made(1, still), made(1, still, thickness=2))
    assert edges(made(1, still, thickness=1)[0]) == (20, 20, 40, 40)
    assert edges(made(1, still, thickness=5)[0])[0] in (17, 18)


def test_colours():
    path = [point(0, 20, 20, 40, 40)]
    drawn = {
        name: made(1, {"path": path, **look}, thickness=1)[0, 20, 30].tolist()
        for name, look in {"none": {}, "colour": {"colour": RED}, "label": {"label": "cat"},
                           "both": {"colour": RED, "label": "cat"}}.items()
    }  # fmt: skip
    assert drawn == {"none": [0, 0, 0], "colour": [255, 0, 0], "label": list(label_colour("cat")), "both": [255, 0, 0]}
    assert made(1, {"path": path, "colour": RED}, as_vace=True)[0, 20, 30].tolist() == [0, 0, 255]


def test_a_labels_colour_depends_on_its_text_alone():
    colours = {label: label_colour(label) for label in ("cat", "dog", "a red ball", "猫")}
    assert colours == {"cat": (0, 204, 164), "dog": (166, 0, 204), "a red ball": (0, 71, 204), "猫": (0, 12, 204)}
    assert object_colour(None, "cat") == colours["cat"]
    assert all(max(colour) == 204 and min(colour) == 0 for colour in colours.values())


def test_later_objects_are_drawn_over_earlier_ones():
    black, red = {"path": [point(0, 20, 20, 40, 40)]}, {"path": [point(0, 20, 20, 60, 40)], "colour": RED}
    over, under = (made(1, *order)[0, 20, 30].tolist() for order in ((black, red), (red, black)))
    assert (over, under) == ([255, 0, 0], [0, 0, 0])


@pytest.mark.parametrize(
    ("box", "inside"), [((30, 40, 60, 60), False), ((30, 2, 60, 40), True), ((85, 40, 95, 60), False)]
)
def test_labels_are_written_at_their_boxes(box, inside):
    moving = {"path": [point(0, *box)], "label": "cat"}
    plain, labelled = made(1, moving)[0], made(1, moving, labels=True)[0]
    text = (plain != labelled).any(axis=-1)
    rows, columns = np.nonzero(text)
    assert text.sum() > 20
    assert (rows.min() > box[1]) == inside
    assert (rows.max() < box[1]) == (not inside)
    assert columns.min() >= min(box[0], 60)
    assert columns.max() < WIDTH - 1 or box[0] == 85
    assert np.array_equal(made(1, {"path": moving["path"]}, labels=True), made(1, {"path": moving["path"]}))


def test_frames_are_not_looked_at():
    annotator = make_annotator("layout", {"objects": [MOVE]}, Canvas(HEIGHT, WIDTH))
    assert np.array_equal(annotator(np.zeros_like(gray_frames(3)), 2), made(3, MOVE, start=2))


OBJECTS = [{**MOVE, "label": "cat"}, MOVE_RED]


@pytest.mark.parametrize("options", [{}, {"as_vace": True}, {"labels": True}], ids=str)
@given(counts=COUNTS)
@settings(max_examples=10, deadline=None)
def test_a_cut_changes_nothing(options, counts):
    frames = gray_frames(12)
    annotator = layout.Layout(LayoutSettings(objects=OBJECTS, **options), HEIGHT, WIDTH)
    whole = layout.Layout(LayoutSettings(objects=OBJECTS, **options), HEIGHT, WIDTH)(frames, 0)
    assert np.array_equal(cut(annotator, frames, counts), whole)
    assert (frames == 128).all()
    assert not np.array_equal(whole[0], whole[1])


def test_what_it_says_of_itself():
    info = load_annotator("layout")
    assert (info.makes, info.reads, info.state) == ("control", "nothing", "")


STILL = {"path": [{"frame": 0, "box": [0, 0, 1, 1]}]}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "controls.annotators.layout.objects: is missing"),
        ({"objects": []}, "controls.annotators.layout: objects must name at least one"),
        ({"objects": [{}]}, "controls.annotators.layout.objects.0.path: is missing"),
        (
            {"objects": [{"path": [{"frame": 0, "box": [0.5, 0, 0.5, 1]}]}]},
            "controls.annotators.layout.objects.0.path.0.box: must be [left, top, right, bottom] with left < right and top < bottom, not [0.5, 0.0, 0.5, 1.0]",
        ),
        (
            {"objects": [{"path": [{"frame": 4, "box": [0, 0, 1, 1]}, {"frame": 4, "box": [0, 0, 1, 1]}]}]},
            "controls.annotators.layout.objects.0.path: the frames of a path must rise from point to point, not [4, 4]",
        ),
        ({"objects": [{**STILL, "label": ""}]}, "controls.annotators.layout.objects.0.label: String should have at least 1 character, not ''"),
        ({"objects": [{**STILL, "colour": [0, 0, 256]}]}, "controls.annotators.layout.objects.0.colour.2: must be less than or equal to 255, not 256"),
        ({"objects": [{**STILL, "color": [0, 0, 0]}]}, "controls.annotators.layout.objects.0.color: unknown key; did you mean 'colour'?"),
        ({"objects": [STILL], "thickness": 0}, "controls.annotators.layout.thickness: must be greater than or equal to 1, not 0"),
        (
            {"objects": [STILL, {"path": [{"frame": frame, "box": [0, 0, 1, 1]} for frame in range(3)]}], "as_vace": True},
            "controls.annotators.layout: as_vace moves a box between two points, not along 3",
        ),
    ],
)  # fmt: skip
def test_wrong_options(options, text):
    with pytest.raises(SettingsError) as caught:
        make_annotator("layout", options, Canvas(HEIGHT, WIDTH))
    assert str(caught.value).startswith(text)
