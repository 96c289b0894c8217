"""What VACE is fed, against its own preprocessing, chunk by chunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from composition.composing import Stream, given, levels, masks
from golden_annotators import golden

from vace_adapt.composition.composer import Given
from vace_adapt.errors import AnnotatorNotFound, InputError, SettingsError
from vace_adapt.time_map import TimeMap

ONE = TimeMap(5, 3)
"""17 frames in the first chunk: all of a golden file at once."""
SPLIT = TimeMap(1, 2)
"""The same 17 frames in chunks of 1, 8 and 8."""


def whole(stream, chunks, fed=None):
    """Frames and masks of all chunks together; `fed` is frames and mask of all of them."""
    parts = []
    for chunk in range(chunks):
        time = stream.composer._shapes.time
        span = slice(time.pixel_start(chunk), time.pixel_start(chunk + 1))
        parts.append(stream.next(None if fed is None else given(*(x[span] for x in fed))))
    shown = [p for p in parts if p is not None]
    assert shown
    blank = np.full_like(levels(shown[0].frames)[:1], 127.5)
    frames, kept = [], []
    for chunk, part in enumerate(parts):
        count = stream.composer._shapes.time.pixels(chunk)
        frames.append(np.repeat(blank, count, axis=0) if part is None else levels(part.frames))
        kept.append(np.full((count, *blank.shape[1:3]), 255.0) if part is None or part.mask is None else masks(part))
    return np.concatenate(frames), np.concatenate(kept)


def check(made, case, name):
    expected = golden(case)
    frames, mask = made
    np.testing.assert_allclose(frames, expected[f"output.{name}.frames"], atol=1e-4)
    np.testing.assert_array_equal(mask, expected[f"output.{name}.masks"])


# --- extension --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("time", "chunks"), [(ONE, 1), (SPLIT, 3)])
@pytest.mark.parametrize("name", ["firstframe", "lastframe", "firstlastframe", "extract_first", "extract_firstlast"])
def test_frames_at_the_ends_as_vace_has_them(name, time, chunks):
    inputs = golden("frame_modes")
    stream = Stream(16, 24, time, anchor="frame")
    clip = inputs["input.clip"]
    anchors = {
        "firstframe": [(inputs["input.image"][None], 0)],
        "lastframe": [(inputs["input.image_2"][None], 16)],
        "firstlastframe": [(inputs["input.image"][None], 0), (inputs["input.image_2"][None], 16)],
        "extract_first": [(clip[:2], 0)],
        "extract_firstlast": [(clip[:1], 0), (clip[-1:], 16)],
    }
    for pictures, frame in anchors[name]:
        stream.anchor(pictures, frame)
    check(whole(stream, chunks), "frame_modes", name)


@pytest.mark.parametrize(("time", "chunks"), [(ONE, 1), (SPLIT, 3)])
@pytest.mark.parametrize("name", ["firstclip", "lastclip", "firstlastclip"])
def test_clips_at_the_ends_as_vace_has_them(name, time, chunks):
    inputs = golden("clip_modes")
    first, second = inputs["input.clip"], inputs["input.clip_2"]
    placed = {"firstclip": [(first, 0)], "lastclip": [(first, 12)], "firstlastclip": [(first, 0), (second, 13)]}[name]
    stream = Stream(16, 24, time, anchor="frame")
    for pictures, frame in placed:
        stream.anchor(pictures, frame)
    check(whole(stream, chunks), "clip_modes", name)


@pytest.mark.parametrize("frame", range(17))
def test_an_anchor_fills_the_group_it_is_encoded_with(frame):
    picture = golden("frame_modes")["input.image"]
    stream = Stream(16, 24, SPLIT)
    stream.anchor(picture[None], frame)
    frames, mask = whole(stream, 3)
    group = {0} if frame == 0 else set(range((frame - 1) // 4 * 4 + 1, (frame - 1) // 4 * 4 + 5))
    assert {t for t in range(17) if not mask[t].any()} == group
    for t in group:
        np.testing.assert_allclose(frames[t], picture, atol=1e-4)


def test_two_pictures_in_a_group_share_it():
    a, b = (np.full((1, 16, 24, 3), level, np.uint8) for level in (10, 250))
    stream = Stream(16, 24, ONE)
    stream.anchor(a, 5)
    stream.anchor(b, 8)
    frames, _ = whole(stream, 1)
    assert [round(float(frames[t].mean())) for t in range(5, 9)] == [10, 10, 250, 250]


def test_too_late():
    stream = Stream(16, 24, SPLIT)
    stream.next()
    stream.next()
    with pytest.raises(InputError, match="a keyframe at frame 8 is too late: the next frame to be made is 9"):
        stream.anchor(np.zeros((1, 16, 24, 3), np.uint8), 8)


# --- inpainting, controls ---------------------------------------------------------------------------------------------


def test_inpainting_as_vace_has_it():
    inputs = golden("inpainting")
    frames, mask = inputs["input.frames"], inputs["input.mask"]
    stream = Stream(64, 96, TimeMap(2, 1), structure=[], blank=128)
    check(whole(stream, 1, (frames, np.stack([mask] * 5))), "inpainting", "mask")


def test_inpainting_hides_what_is_to_be_made_anew():
    inputs = golden("inpainting")
    mask = np.stack([inputs["input.mask"]] * 5)
    others = np.where(mask[..., None] > 0, 255 - inputs["input.frames"], inputs["input.frames"])
    made = [
        Stream(64, 96, TimeMap(2, 1), structure=[]).next(given(f, mask)).frames
        for f in (inputs["input.frames"], others)
    ]
    assert torch.equal(*made)


def test_inpainting_with_a_control_inside_as_vace_composes_it():
    inputs = golden("composition")
    kept, control = inputs["input.frames_1"], inputs["input.frames_2"]
    mask = inputs["input.masks_1"][..., 0] * 255
    stream = Stream(16, 24, TimeMap(1, 1, stride=2), structure=[{"annotator": "plain", "video": "depth"}])
    made = [stream.next(given(kept[span], mask[span], depth=control[span])) for span in (slice(0, 1), slice(1, 3))]
    expected = golden("composition")
    np.testing.assert_allclose(
        np.concatenate([levels(m.frames) for m in made]), expected["output.inpainting_depth.frames"], atol=1e-4
    )
    np.testing.assert_array_equal(
        np.concatenate([masks(m) for m in made]), expected["output.inpainting_depth.masks"][..., 0]
    )


@pytest.mark.parametrize("lower", ["inpainting", "depth"])
def test_an_extension_over_anything_as_vace_composes_it(lower):
    inputs = golden("composition")
    mask = inputs["input.masks_2"][..., 0] * 255
    stream = Stream(16, 24, TimeMap(1, 1, stride=2), anchor="frame")
    stream.anchor(inputs["input.frames_1"], 0, inputs["input.masks_1"][..., 0])
    made = [stream.next(given(inputs["input.frames_2"][s], mask[s])) for s in (slice(0, 1), slice(1, 3))]
    expected = golden("composition")
    np.testing.assert_allclose(
        np.concatenate([levels(m.frames) for m in made]), expected[f"output.frameref_{lower}.frames"], atol=1e-4
    )
    np.testing.assert_array_equal(
        np.concatenate([masks(m) for m in made]), expected[f"output.frameref_{lower}.masks"][..., 0]
    )


# --- several controls -------------------------------------------------------------------------------------------------


def ramp(level, count=5):
    return np.full((count, 16, 24, 3), level, np.uint8)


def test_controls_side_by_side():
    stream = Stream(16, 24, TimeMap(2, 1), structure=[
        {"annotator": "plain", "region": [0, 0, 0.5, 1]},
        {"annotator": "plain", "video": "other", "region": [0.5, 0, 1, 0.5]},
    ])  # fmt: skip
    made = stream.next(given(ramp(51), other=ramp(204)))
    frames = levels(made.frames)
    assert made.mask is None
    np.testing.assert_allclose(frames[:, :, :12], 51, atol=1e-4)
    np.testing.assert_allclose(frames[:, :8, 12:], 204, atol=1e-4)
    np.testing.assert_allclose(frames[:, 8:, 12:], 127.5, atol=1e-4)


def test_controls_over_each_other_are_averaged_by_weight_and_scale():
    stream = Stream(16, 24, TimeMap(2, 1), structure=[
        {"annotator": "plain", "weight": 3},
        {"annotator": "plain", "video": "other", "weight": 2, "scale": 0.5},
    ])  # fmt: skip
    made = stream.next(given(ramp(100), other=ramp(200)))
    np.testing.assert_allclose(levels(made.frames), (3 * 100 + 1 * 200) / 4, atol=1e-3)
    torch.testing.assert_close(made.factors, torch.full((1, 1, 2, 2, 3), (3 * 1 + 1 * 0.5) / 4))


def test_a_scale_of_0_is_the_same_as_not_having_the_control():
    silent = {"annotator": "plain", "video": "other", "scale": 0}
    with_it = Stream(16, 24, TimeMap(2, 1), structure=["plain", silent]).next(given(ramp(100), other=ramp(200)))
    without = Stream(16, 24, TimeMap(2, 1)).next(given(ramp(100)))
    assert torch.equal(with_it.frames, without.frames)
    assert with_it.factors is None
    assert Stream(16, 24, TimeMap(2, 1), structure=[silent]).next(given(ramp(100), other=ramp(200))) is None
    alone = Stream(16, 24, TimeMap(2, 1), structure=[{"annotator": "plain", "scale": 0}])
    assert alone.next(given(ramp(100))) is None


def test_what_is_refused_of_controls():
    end = {"schedule": {"end_step": 1}}
    overlap = r"plain and canny \(controls\.structure\) overlap and act in different denoise steps"
    with pytest.raises(InputError, match=overlap):
        Stream(16, 24, ONE, steps=2, structure=["plain", {"annotator": "canny", **end}])
    left, right = (0, 0, 0.5, 1), (0.5, 0, 1, 1)
    Stream(
        16,
        24,
        ONE,
        steps=2,
        structure=[{"annotator": "plain", "region": left}, {"annotator": "canny", "region": right, **end}],
    )
    with pytest.raises(InputError, match="the schedule of canny speaks of denoise step 4, the last one is 1"):
        Stream(16, 24, ONE, steps=2, structure=[{"annotator": "canny", "schedule": {"start_step": 4}}])
    with pytest.raises(InputError, match=r"region \[0\.0, 0\.0, 0\.01, 1\.0\] holds no pixel of 16x24"):
        Stream(16, 24, ONE, structure=[{"annotator": "plain", "region": (0, 0, 0.01, 1)}])


def test_scales_by_token_and_step():
    half = {"annotator": "plain", "region": [0, 0, 0.5, 1], "scale": 0.5, "schedule": {"end_step": 1}}
    stream = Stream(16, 32, TimeMap(2, 1), steps=2, structure=[half])
    frames = np.zeros((5, 16, 32, 3), np.uint8)
    mask = np.full((5, 16, 32), 255, np.uint8)
    mask[1:, :, :8] = 0
    factors = stream.next(given(frames, mask)).factors
    assert factors.shape == (2, 1, 2, 2, 4)
    steers, kept, free = 0.5, 1.0, 1.0
    expected = torch.tensor([[[steers, steers, free, free]] * 2, [[kept, steers, free, free]] * 2])
    assert torch.equal(factors[0, 0], expected)
    assert torch.equal(factors[1, 0], torch.where(expected == steers, 0.0, expected))


# --- outpainting ------------------------------------------------------------------------------------------------------


def test_outpainting_places_and_keeps_the_source():
    stream = Stream(32, 48, TimeMap(2, 1), structure=[], outpaint={"left": 0.25, "right": 0.25})
    assert stream.composer.source_size == (32, 32)
    source = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    made = stream.next(given(source))
    np.testing.assert_allclose(levels(made.frames)[:, :, 8:40], source, atol=1e-4)
    np.testing.assert_allclose(np.delete(levels(made.frames), slice(8, 40), axis=2), 127.5, atol=1e-4)
    assert np.array_equal(np.unique(np.flatnonzero(masks(made)[0, 0])), [*range(8), *range(40, 48)])


@pytest.mark.parametrize(
    ("name", "sides"), [("inner_left_right", {"left": 0.25, "right": 0.25}), ("inner_down", {"down": 0.3})]
)
def test_the_border_made_anew_as_vace_has_it(name, sides):
    frames = golden("outpainting")["input.frames"]
    expected = golden("outpainting")[f"output.{name}.masks"]
    made = {}
    for vace_edge in (True, False):
        outpaint = {**sides, "inner": True, "vace_edge": vace_edge}
        stream = Stream(64, 96, TimeMap(1, 1, stride=2), structure=[], blank=128, outpaint=outpaint)
        made[vace_edge] = stream.next(given(frames[:1]))
    np.testing.assert_allclose(levels(made[True].frames), golden("outpainting")[f"output.{name}.frames"][:1], atol=1e-4)
    np.testing.assert_array_equal(masks(made[True]), expected[:1])
    assert (masks(made[False]) >= expected[:1]).all()
    assert (masks(made[False]) > expected[:1]).any()


def test_a_keyframe_gets_room_around_it_too():
    stream = Stream(32, 48, TimeMap(2, 1), structure=[], outpaint={"left": 0.25, "right": 0.25})
    stream.anchor(np.full((1, 32, 32, 3), 200, np.uint8), 0)
    made = stream.next()
    frames, mask = levels(made.frames), masks(made)
    np.testing.assert_allclose(frames[0, :, 8:40], 200, atol=1e-4)
    assert mask[0, :, :8].all()
    assert not mask[0, :, 8:40].any()
    assert mask[1:].all()


def test_outpainting_and_inpainting_together():
    stream = Stream(32, 48, TimeMap(2, 1), structure=[], outpaint={"left": 0.25, "right": 0.25})
    mask = np.zeros((5, 32, 32), np.uint8)
    mask[:, :16] = 255
    made = stream.next(given(np.full((5, 32, 32, 3), 200, np.uint8), mask))
    assert masks(made)[0, 0].all()
    assert not masks(made)[0, 20, 8:40].any()
    np.testing.assert_allclose(levels(made.frames)[:, :16], 127.5, atol=1e-4)


# --- what cannot work -------------------------------------------------------------------------------------------------


def test_annotators_that_cannot_be_used():
    with pytest.raises(AnnotatorNotFound, match=r"no annotator 'cany' \(installed: .*did you mean 'canny'"):
        Stream(16, 24, ONE, structure=["cany"])
    with pytest.raises(InputError, match=r"annotator 'mask_box' makes a mask: name it in controls\.mask\.annotator"):
        Stream(16, 24, ONE, structure=["mask_box"])
    with pytest.raises(InputError, match=r"annotator 'canny' makes no mask: name it in controls\.structure"):
        Stream(16, 24, ONE, mask={"annotator": "canny"})
    with pytest.raises(SettingsError, match=r"annotators\.canny\.lo: unknown key; did you mean 'low'\?"):
        Stream(16, 24, ONE, structure=["canny"], annotators={"canny": {"lo": 3}})


def test_an_annotator_that_needs_more_than_the_first_chunk_has():
    with pytest.raises(InputError, match="an annotator needs 2 frames at first, the first chunk has 1"):
        Stream(16, 24, SPLIT, structure=["flow"])


def test_frames_that_would_not_be_used():
    fed = given(ramp(1))
    composer = Stream(16, 24, ONE, structure=[]).composer
    composer.check(given(ramp(1), np.zeros((5, 16, 24), np.uint8)))
    with pytest.raises(
        InputError,
        match=r"the frames would not be used: no mask keeps any of them, and what steers is nothing \(controls\.structure\)",
    ):
        composer.check(fed)
    with pytest.raises(InputError, match=r"the video 'depth' is fed, and no control reads it \(controls\.structure\)"):
        Stream(16, 24, ONE).composer.check(given(ramp(1), depth=ramp(2)))


def test_two_masks():
    made = Stream(
        16, 24, ONE, mask={"annotator": "mask_box"}, annotators={"mask_box": {"box": [0, 0, 1, 0.5]}}
    ).composer
    made.check(given(ramp(1)))
    with pytest.raises(
        InputError, match=r"a mask is fed, and controls\.mask\.annotator=mask_box makes one: leave one out"
    ):
        made.check(given(ramp(1), np.zeros((5, 16, 24), np.uint8)))


def test_a_mask_without_frames():
    with pytest.raises(InputError, match="a mask is fed without frames: there is nothing to keep"):
        Stream(16, 24, ONE, structure=[{"annotator": "plain", "video": "depth"}]).composer.check(
            Given({"depth": torch.zeros(1, 5, 16, 24, 3)}, torch.zeros(1, 5, 16, 24))
        )


@pytest.mark.parametrize(("shape", "covered"), [("dots_box", 7 * 9), ("hull", None), ("box", 9 * 11)])
def test_shapes_of_masks(shape, covered):
    mask = np.zeros((5, 16, 24), np.uint8)
    for row, column in ((3, 5), (3, 13), (9, 5), (9, 13)):
        mask[:, row - 1 : row + 2, column - 1 : column + 2] = 255
    made = masks(Stream(16, 24, TimeMap(2, 1), structure=[], mask={"shape": shape}).next(given(ramp(9), mask)))
    assert (made[0] > 0).sum() == (covered or (made[0] > 0).sum()) > (mask[0] > 0).sum() * (shape != "dots_box")


def test_a_control_that_outpainting_would_hide():
    stream = Stream(32, 48, TimeMap(2, 1), structure=["canny"], outpaint={"left": 0.5})
    with pytest.raises(
        InputError,
        match=r"canny \(controls\.structure\) would not be seen: outpainting keeps all of the source; give a mask",
    ):
        stream.composer.check(given(np.zeros((5, 32, 32, 3), np.uint8)))
