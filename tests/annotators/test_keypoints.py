from __future__ import annotations

import json

import numpy as np
import pytest

from vace_adapt.annotators.keypoint_files import read_people
from vace_adapt.annotators.keypoints import from_body_25, from_coco, without_strays
from vace_adapt.errors import InputError

OPENPOSE = ["nose", "neck", "r shoulder", "r elbow", "r wrist", "l shoulder", "l elbow", "l wrist", "r hip", "r knee", "r ankle", "l hip", "l knee", "l ankle", "r eye", "l eye", "r ear", "l ear"]  # fmt: skip
COCO = ["nose", "l eye", "r eye", "l ear", "r ear", "l shoulder", "r shoulder", "l elbow", "r elbow", "l wrist", "r wrist", "l hip", "r hip", "l knee", "r knee", "l ankle", "r ankle"]  # fmt: skip
BODY_25 = ["nose", "neck", "r shoulder", "r elbow", "r wrist", "l shoulder", "l elbow", "l wrist", "mid hip", "r hip", "r knee", "r ankle", "l hip", "l knee", "l ankle", "r eye", "l eye", "r ear", "l ear", "l big toe", "l small toe", "l heel", "r big toe", "r small toe", "r heel"]  # fmt: skip

RANDOM = np.random.default_rng(0)


def pixels(count, height=200, width=100):
    """Points in pixels, score 0.5..1."""
    return RANDOM.uniform([1, 1, 0.5], [width, height, 1], (count, 3))


def fractions(points, height=200, width=100):
    return points / [width, height, 1]


def numbers(points):
    return points.ravel().tolist()


def person(count=18, **parts):
    return {"pose_keypoints_2d": numbers(pixels(count)), **parts}


def save(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def saved(tmp_path):
    return lambda content: save(tmp_path / "poses.json", content)


def refused(path, size=None):
    with pytest.raises(InputError) as caught:
        read_people(path, size)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("keypoints")
    return text.replace(str(path), "FILE")


def test_from_coco():
    points = pixels(17)
    made = from_coco(points)
    for name in set(COCO):
        assert np.array_equal(made[OPENPOSE.index(name)], points[COCO.index(name)])
    left, right = points[COCO.index("l shoulder")], points[COCO.index("r shoulder")]
    assert np.array_equal(made[1], [*(left[:2] + right[:2]) / 2, min(left[2], right[2])])
    assert (made.shape, made.dtype) == ((18, 3), np.float64)


def test_a_neck_needs_both_shoulders():
    points = pixels(17)
    points[5, 2] = 0
    assert from_coco(points)[1, 2] == 0


def test_from_body_25():
    points = pixels(25)
    made = from_body_25(points)
    for name in OPENPOSE:
        assert np.array_equal(made[OPENPOSE.index(name)], points[BODY_25.index(name)])


def test_strays_are_not_found():
    points = np.array([[-1, 2, 0.5], [-1.01, 0, 1], [0, 2.01, 1], [np.nan, 0, 1], [0, -np.inf, 1]])
    assert without_strays(points).tolist() == [[-1, 2, 0.5]] + [[0, 0, 0]] * 4


def test_one_openpose_object(saved):
    body, left, face = pixels(18), pixels(21), pixels(70)
    given = {
        "pose_keypoints_2d": numbers(body),
        "hand_left_keypoints_2d": numbers(left),
        "face_keypoints_2d": numbers(face),
    }
    frames = read_people(saved({"version": 1.3, "people": [given], "canvas_height": 200, "canvas_width": 100}))
    assert list(frames) == [0]
    (found,) = frames[0]
    assert np.array_equal(found.body, fractions(body))
    assert np.array_equal(found.hands, [fractions(left), np.zeros((21, 3))])
    assert np.array_equal(found.face, fractions(face)[:68])


def test_body_25(saved):
    body = pixels(25)
    frames = read_people(saved({"people": [{"pose_keypoints_2d": numbers(body)}]}), (200, 100))
    assert np.array_equal(frames[0][0].body, from_body_25(fractions(body)))


@pytest.mark.parametrize("absent", [{}, {"hand_right_keypoints_2d": None, "face_keypoints_2d": []}])
def test_absent_parts(saved, absent):
    frames = read_people(saved({"people": [{**person(), **absent}, {"pose_keypoints_2d": None}]}), (200, 100))
    assert [found.hands is found.face is None for found in frames[0]] == [True, True]
    assert not frames[0][1].body.any()


def test_a_list_of_frames(saved):
    counts = [1, 0, 3]
    content = [
        {"people": [person() for _ in range(count)], "canvas_height": 200 + i, "canvas_width": 100}
        for i, count in enumerate(counts)
    ]
    frames = read_people(saved(content))
    assert {number: len(people) for number, people in frames.items()} == dict(enumerate(counts))
    last = np.reshape(content[2]["people"][1]["pose_keypoints_2d"], (18, 3))
    assert np.array_equal(frames[2][1].body, fractions(last, 202))


def test_a_size_that_is_given_counts(saved):
    path = saved({"people": [person()], "canvas_height": 200, "canvas_width": 100})
    stated, given = read_people(path), read_people(path, (400, 400))
    assert np.allclose(given[0][0].body * [4, 2, 1], stated[0][0].body)


def test_fractions_have_size_1_1(saved):
    body = fractions(pixels(18))
    path = saved({"people": [{"pose_keypoints_2d": numbers(body)}], "canvas_height": 200, "canvas_width": 100})
    assert np.array_equal(read_people(path, (1, 1))[0][0].body, body)
    assert refused(path) == (
        "keypoints FILE: people[0].pose_keypoints_2d are all in the first pixel of 200x100: are they fractions? then "
        "size is [1, 1]"
    )


def test_a_folder_by_number(tmp_path):
    for number in (11, 9, 10):
        save(tmp_path / f"clip_{number}_keypoints.json", {"people": [person() for _ in range(number)]})
    (tmp_path / "notes.txt").write_text("not one of them")
    frames = read_people(tmp_path, (200, 100))
    assert [len(frames[i]) for i in range(3)] == [9, 10, 11]


@pytest.mark.parametrize(("numbers", "text"), [
    ([], "keypoints FILE: no file ends in NUMBER_keypoints.json"),
    ([0, 1, 3], "keypoints FILE: v_3_keypoints.json follows number 1: expected one file a frame"),
])  # fmt: skip
def test_folders_that_are_refused(tmp_path, numbers, text):
    for number in numbers:
        save(tmp_path / f"v_{number}_keypoints.json", {"people": []})
    assert refused(tmp_path) == text


def test_an_error_in_a_folder_names_the_file(tmp_path):
    save(tmp_path / "v_0_keypoints.json", {"people": [person()]})
    assert refused(tmp_path).startswith("keypoints FILE/v_0_keypoints.json: the file names no canvas")


def annotation(image_id, points=None, **more):
    return {"image_id": image_id, "keypoints": numbers(pixels(17) if points is None else points), **more}


def test_coco_annotations(saved):
    points = [pixels(17, 100, 50) for _ in range(3)]
    points[0][:, 2] = 2
    points[0][4] = 0
    images = [
        {"id": 30, "height": 100, "width": 50},
        {"id": 7, "height": 200, "width": 100},
        {"id": 31, "height": 100, "width": 50},
    ]
    given = [annotation(7, points[0]), annotation(30, points[1]), annotation(7, points[2])]
    frames = read_people(saved({"images": images, "annotations": given}))
    assert {number: len(people) for number, people in frames.items()} == {0: 2, 1: 1}
    assert np.array_equal(frames[0][0].body, from_coco(fractions(points[0], 200, 100)))
    assert np.array_equal(frames[1][0].body, from_coco(fractions(points[1], 100, 50)))


def test_coco_results(saved):
    given = [annotation(2, score=0.9), annotation(5)]
    frames = read_people(saved(given), (200, 100))
    assert sorted(frames) == [2, 5]
    assert np.array_equal(frames[5][0].body, from_coco(fractions(np.reshape(given[1]["keypoints"], (17, 3)))))


def test_no_file(tmp_path):
    assert refused(tmp_path / "none.json") == "keypoints: no file or folder 'FILE'"


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_not_json(tmp_path, content):
    path = tmp_path / "poses.json"
    path.write_bytes(content)
    assert refused(path).startswith("keypoints FILE: cannot be read as JSON: ")


def test_a_byte_order_mark_does_not_matter(tmp_path):
    path = tmp_path / "poses.json"
    path.write_text(json.dumps([{"people": []}]), encoding="utf-8-sig")
    assert read_people(path) == {0: []}


WHOLE = {"canvas_height": 200, "canvas_width": 100}


def changed(index, value):
    given = numbers(pixels(18))
    given[index] = value
    return {"people": [{"pose_keypoints_2d": given}], **WHOLE}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([], ": expected an OpenPose object with people, a list of them, or COCO annotations or results"),
        (7, ": expected an OpenPose object with people, a list of them, or COCO annotations or results"),
        ([{"people": []}, {}], ": expected an OpenPose object with people, a list of them, or COCO annotations or results"),
        ({"people": {}}, ": expected an OpenPose object with a list of people"),
        ([{"people": []}, {"people": 3}], ": frame 1: expected an OpenPose object with a list of people"),
        ({"people": [3], **WHOLE}, ": people[0] must be an object, not int"),
        ({"people": [person()]}, ": the file names no canvas: give size [height, width] of what it was made from"),
        ({"people": [person()], "canvas_height": 0, "canvas_width": 9}, ": the canvas must be two numbers of pixels, not 0 x 9"),
        ({"people": [person()], "canvas_height": "9", "canvas_width": 9}, ": the canvas must be two numbers of pixels, not '9' x 9"),
        ({"people": [person(17)], **WHOLE}, ": people[0].pose_keypoints_2d: expected 54 (18 points) or 75 (25 points), not 51 numbers"),
        ({"people": [person(face_keypoints_2d=[1, 2, 3])], **WHOLE}, ": people[0].face_keypoints_2d: expected 204 (68 points) or 210 (70 points), not 3 numbers"),
        ({"people": [person(hand_left_keypoints_2d="x")], **WHOLE}, ": people[0].hand_left_keypoints_2d: expected 63 (21 points), not str"),
        (changed(4, "7"), ": people[0].pose_keypoints_2d must be numbers below 1e9, not '7'"),
        (changed(4, None), ": people[0].pose_keypoints_2d must be numbers below 1e9, not None"),
        (changed(4, True), ": people[0].pose_keypoints_2d must be numbers below 1e9, not True"),
        (changed(4, float("nan")), ": people[0].pose_keypoints_2d must be numbers below 1e9, not nan"),
        (changed(4, 10**12), ": people[0].pose_keypoints_2d must be numbers below 1e9, not 1000000000000"),
        (changed(4, 20001), ": people[0].pose_keypoints_2d: a point is more than 100 canvases of 200x100 pixels away"),
        (changed(5, -0.5), ": people[0].pose_keypoints_2d: a score must not be negative, not -0.5"),
        ({"annotations": 3}, ": expected COCO keypoints, each with image_id and keypoints"),
        ({"annotations": [{"image_id": 1, "bbox": []}]}, ": expected COCO keypoints, each with image_id and keypoints"),
        ([annotation("a.png")], ": annotation 0: image_id must be the number of a frame, not 'a.png'"),
        ([annotation(-1)], ": annotation 0: image_id must be the number of a frame, not -1"),
        ([annotation(0)], ": annotation 0: the file names no canvas: give size [height, width] of what it was made from"),
        ([annotation(0, pixels(18))], ": annotation 0: the file names no canvas: give size [height, width] of what it was made from"),
        ({"annotations": [annotation(0, pixels(18))], "images": [{"id": 0, "height": 200, "width": 100}]}, ": annotation 0: keypoints: expected 51 (17 points), not 54 numbers"),
        ({"annotations": [annotation(4)], "images": [{"id": 3}]}, ": annotation 0 is of image 4, which is not among the images"),
        ({"annotations": [annotation([4])], "images": [{"id": 3}]}, ": annotation 0 is of image [4], which is not among the images"),
        ({"annotations": [], "images": [{"file_name": "a"}]}, ": images must be a list of objects with an id"),
        ({"annotations": [], "images": [{"id": 1}, {"id": "a"}]}, ": the ids of images cannot be ordered: '<' not supported between instances of 'str' and 'int'"),
        ({"annotations": [], "images": [{"id": 1}, {"id": 1}]}, ": 2 images have 1 different ids"),
    ],
)  # fmt: skip
def test_files_that_are_refused(saved, content, text):
    assert refused(saved(content)) == "keypoints FILE" + text
