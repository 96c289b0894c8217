"""What the inputs amount to, in words."""

from __future__ import annotations

import pytest

from vace_adapt.composition.describe import Facts, describe
from vace_adapt.controls import ControlSettings
from vace_adapt.time_map import TimeMap

TIME = TimeMap(3, 3)
"""Chunks of 9 and 12 frames."""
INPUT = frozenset({"input"})


def facts(controls=None, **given) -> Facts:
    settings = ControlSettings.model_validate(controls or {})
    return Facts(settings, settings.scale, TIME, **given)


@pytest.mark.parametrize(
    ("given", "task"),
    [
        (facts(), "text"),
        (facts(videos=INPUT), "control video"),
        (facts({"structure": ["canny", "gray"]}, videos=INPUT), "canny + gray"),
        (facts({"structure": []}, videos=INPUT, mask=True), "inpainting (mask fed)"),
        (facts({"structure": [], "mask": {"annotator": "mask_box"}}, videos=INPUT), "inpainting (mask_box)"),
        (facts({"structure": [], "outpaint": {"up": 0.5}}, videos=INPUT), "outpainting (up)"),
        (facts({"outpaint": {"up": 0.5}}, videos=INPUT), "outpainting (up)"),
        (facts({"mask": {"annotator": "mask_box"}}), "text"),
        (facts({"structure": ["layout"]}), "layout"),
        (facts(references=(("face", 1.0), (None, 1.0))), "2 references (face)"),
        (facts(references=((None, 0.0),)), "text"),
        (facts(anchors=(0,), frames=21), "extension (first frame)"),
        (facts(anchors=(20,), frames=21), "extension (last frame)"),
        (facts(anchors=(0, 1, 2, 20), frames=21), "extension (first clip, last frame)"),
        (facts(anchors=(5, 9, 12, 13), frames=21), "extension (2 key frames, key clip)"),
    ],
)
def test_task(given, task):
    assert describe(given).task == task


@pytest.mark.parametrize(
    ("given", "ignored"),
    [
        (facts({"structure": [{"annotator": "canny", "scale": 0}]}, videos=INPUT), "canny, scale 0: its scale is 0"),
        (facts({"structure": [{"annotator": "plain", "video": "depth"}]}, videos=INPUT), "control video of depth: the video 'depth' is not fed"),
        (facts({"annotators": {"canny": {}}}), "controls.annotators.canny: nothing uses the annotator canny"),
        (facts({"mask": {"grow": 3}}, videos=INPUT), "controls.mask: there is no mask to change"),
        (facts({"mask": {"annotator": "mask_box"}}), "controls.mask.annotator=mask_box: the video 'input' is not fed"),
        (facts({"scale": {"layers": [0, 0]}}, videos=INPUT), "frames, masks and keyframes: controls.scale lets no control act"),
        (facts({"structure": [{"annotator": "canny", "schedule": {"chunks": [[0, 0]]}}]}, videos=INPUT), "canny: its scale is 0"),
        (facts({"outpaint": {"left": 0.5}}), "controls.outpaint: there is nothing to make room around"),
        (facts({"preserve": "pixel"}, videos=INPUT), "controls.preserve=pixel: nothing is kept"),
        (facts({"scale": {"control": 0}}, videos=INPUT), "frames, masks and keyframes: controls.scale lets no control act"),
        (facts({"scale": {"references": 0}}, references=((None, 1.0),)), "reference 0: its scale is 0"),
        (facts(references=((None, 0.0),)), "reference 0: its scale is 0"),
    ],
)  # fmt: skip
def test_what_is_not_used_and_why(given, ignored):
    assert describe(given).ignored == (ignored,)
    assert f"ignored: {ignored}" in str(describe(given))


def test_chunks_of_an_anchor():
    def chunks(*anchors, rule="group"):
        (use,) = describe(facts({"anchor": rule}, anchors=anchors)).uses
        return use.chunks

    assert chunks(0) == "0"
    assert chunks(3) == "0 (filling frames 1-4)"
    assert chunks(3, rule="frame") == "0"
    assert chunks(*range(7, 11)) == "0-1 (filling frames 5-12)"
    assert chunks(*range(5, 9)) == "0"
    assert chunks(33) == "3 (filling frames 33-36)"


def test_everything_at_once():
    given = facts(
        {"structure": [{"annotator": "gray", "scale": 0.5, "region": (0, 0, 0.5, 1)}], "outpaint": {"left": 0.5}},
        videos=INPUT, mask=True, references=(("style", 0.5),), anchors=(0,), frames=33,
    )  # fmt: skip
    assert str(describe(given)).splitlines() == [
        "task: reference (style) + gray + inpainting (mask fed) + outpainting (left) + extension (first frame)",
        "input                                    feeds                      chunks",
        "reference 0 (style)                      its own context rows       0-2",
        "input, where it is kept                  inactive 0-15              0-2",
        "gray in [0.0, 0.0, 0.5, 1.0], scale 0.5  reactive 16-31             0-2",
        "mask (mask fed)                          mask 32-95                 0-2",
        "canvas (left)                            mask 32-95                 0-2",
        "keyframe at frame 0                      inactive 0-15, mask 32-95  0",
    ]
    assert describe(given).plain()["uses"][0] == {
        "input": "reference 0 (style)",
        "feeds": "its own context rows",
        "chunks": "0-2",
    }
