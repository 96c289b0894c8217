"""Control latents of every task: what is composed chunk by chunk encodes to what VACE's own preprocessing encodes to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from composition.composing import Stream, given
from golden_annotators import golden

from vace_adapt.composing import Outpaint
from vace_adapt.composition.canvas import Placement, place_in
from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.vae import VaeCodec
from vace_adapt.embedded.tiny import tiny_vae
from vace_adapt.time_map import TimeMap

TIME = TimeMap(1, 2)
"""17 frames in chunks of 1, 8 and 8."""

SHORT = TimeMap(1, 1)
"""5 frames in chunks of 1 and 4."""


@pytest.fixture(scope="module")
def codec():
    return VaeCodec(tiny_vae(0))


def vaces(codec, frames, mask):
    """What VACE encodes, all at once: frames 0..255 [T, H, W, 3] and mask 0 or 255."""
    count, height, width = mask.shape
    encoder = ControlEncoder(codec, TimeMap(1 + (count - 1) // 4, 1), (1, height, width), "group")
    pixels = torch.from_numpy(frames).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
    return encoder.control(0, pixels, torch.from_numpy(mask)[None, None].float() / 255)


def ours(codec, stream, time, chunks, size, fed=None, **videos):
    """What a stream encodes, chunk by chunk: first latent frame and control latents of every controlled chunk."""
    encoder = ControlEncoder(codec, time, (1, *size), "group")
    made = []
    for chunk in range(chunks):
        span = slice(time.pixel_start(chunk), time.pixel_start(chunk + 1))
        part = None
        if fed is not None:
            own = {name: video[span] for name, video in videos.items()}
            part = given(*(None if one is None else one[span] for one in fed), **own)
        composed = stream.next(part)
        if composed is None:
            encoder.skip(chunk)
        else:
            made.append((time.latent_start(chunk), encoder.control(chunk, composed.frames, composed.mask)))
    return made


def official(case, name):
    expected = golden(case)
    return expected[f"output.{name}.frames"], expected[f"output.{name}.masks"]


def lengthened(frames):
    """The last one repeated up to 5."""
    return np.concatenate([frames, np.stack([frames[-1]] * (5 - len(frames)))])


def composition():
    """First frames and mask, second frames and mask; masks 0 or 1."""
    inputs = golden("composition")
    pictures = (inputs["input.frames_1"], inputs["input.masks_1"][..., 0])
    others = (inputs["input.frames_2"], inputs["input.masks_2"][..., 0])
    return map(lengthened, (*pictures, *others))


def composed(name):
    frames, mask = official("composition", name)
    return lengthened(frames), lengthened(mask[..., 0])


@pytest.mark.parametrize(
    ("name", "idle", "controlled"),
    [
        ("firstframe", "nothing", [0, 1, 3]),
        ("lastframe", "nothing", [0, 1, 3]),
        ("firstlastframe", "nothing", [0, 1, 3]),
        ("firstframe", "bare", [0]),
        ("lastframe", "bare", [3]),
    ],
)
def test_frames(codec, name, idle, controlled):
    inputs = golden("frame_modes")
    stream = Stream(16, 24, TIME, anchor="frame", idle=idle)
    if "first" in name:
        stream.anchor(inputs["input.image"][None], 0)
    if "last" in name:
        stream.anchor(inputs["input.image_2"][None], 16)
    check(codec, stream, TIME, controlled, *official("frame_modes", name))


@pytest.mark.parametrize(("name", "at"), [("firstclip", (0,)), ("lastclip", (12,)), ("firstlastclip", (0, 13))])
def test_clips(codec, name, at):
    inputs = golden("clip_modes")
    stream = Stream(16, 24, TIME, anchor="frame", idle="nothing")
    for clip, frame in zip((inputs["input.clip"], inputs["input.clip_2"]), at, strict=False):
        stream.anchor(clip, frame)
    check(codec, stream, TIME, [0, 1, 3], *official("clip_modes", name))


def test_inpainting(codec):
    inputs = golden("inpainting")
    stream = Stream(64, 96, SHORT, structure=[], blank=128)
    fed = inputs["input.frames"], np.stack([inputs["input.mask"]] * 5)
    check(codec, stream, SHORT, [0, 1], *official("inpainting", "mask"), fed)


def test_inpainting_of_a_box(codec):
    box = {"mask_box": {"box": [10 / 96, 12 / 64, 60 / 96, 50 / 64]}}
    stream = Stream(64, 96, SHORT, structure=[], blank=128, mask={"annotator": "mask_box"}, annotators=box)
    fed = golden("inpainting")["input.frames"], None
    check(codec, stream, SHORT, [0, 1], *official("inpainting", "bbox"), fed)


@pytest.mark.parametrize(
    ("name", "width", "outpaint", "placement"),
    [
        ("left_right", 144, {"left": 0.25, "right": 0.25}, Placement(64, 144, 0, 24, 64, 96)),
        ("inner_left_right", 96, {"left": 0.25, "right": 0.25, "inner": True, "vace_edge": True},
         Placement(64, 96, 0, 24, 64, 48, inner=True)),
        ("inner_down", 96, {"down": 0.3, "inner": True, "vace_edge": True},
         Placement(64, 96, 0, 0, 45, 96, inner=True)),
    ],
)  # fmt: skip
def test_outpainting(codec, name, width, outpaint, placement):
    """The golden file has two frames; the second is repeated."""
    assert place_in(64, width, Outpaint(**outpaint)) == placement
    stream = Stream(64, width, SHORT, structure=[], blank=128, outpaint=outpaint)
    fed = lengthened(golden("outpainting")["input.frames"]), None
    check(codec, stream, SHORT, [0, 1], *map(lengthened, official("outpainting", name)), fed)


def test_a_picture_over_inpainting(codec):
    """The golden file has three frames; the last is repeated."""
    over, over_mask, under, under_mask = composition()
    stream = Stream(16, 24, SHORT, anchor="frame")
    stream.anchor(over, 0, over_mask)
    check(codec, stream, SHORT, [0, 1], *composed("frameref_inpainting"), (under, under_mask * 255))


def test_a_control_inside_inpainting(codec):
    kept, mask, depth, _ = composition()
    stream = Stream(16, 24, SHORT, structure=[{"annotator": "plain", "video": "depth"}])
    check(codec, stream, SHORT, [0, 1], *composed("inpainting_depth"), (kept, mask * 255), depth=depth)


@pytest.mark.parametrize(
    ("case", "structure", "options", "size", "name"),
    [
        ("gray", "gray", {"order": "bgr"}, (64, 96), "gray"),
        ("layout", "layout", {"as_vace": True, "objects": [{"path": [
            {"frame": 0, "box": (4 / 96, 6 / 64, 24 / 96, 30 / 64)}, {"frame": 8, "box": (60 / 96, 30 / 64, 92 / 96, 60 / 64)}
        ]}]}, (64, 96), "bbox"),
    ],
)  # fmt: skip
def test_controls(codec, case, structure, options, size, name):
    expected = golden(case)
    frames = expected[f"output.{name}"]
    stream = Stream(*size, TIME, structure=structure, annotators={structure: options})
    chunks = {17: 3, 9: 2}[len(frames)]
    made = ours(codec, stream, TIME, chunks, size, (expected.get("input.frames", np.zeros_like(frames)), None))
    assert len(made) == chunks
    compare(made, vaces(codec, frames, np.full(frames.shape[:3], 255, np.uint8)))


def compare(made, whole):
    for start, latents in made:
        torch.testing.assert_close(latents, whole[:, :, start : start + latents.shape[2]], atol=1e-5, rtol=1e-4)


def check(codec, stream, time, controlled, frames, mask, fed=None, **videos):
    """Control latents equal VACE's, and the chunks that have any start at the latent frames `controlled`. Other frames
    and masks encode to something else.
    """
    whole = vaces(codec, frames, mask)
    chunks = next(n for n in range(1, 9) if time.pixel_start(n) == len(frames))
    made = ours(codec, stream, time, chunks, mask.shape[1:], fed, **videos)
    assert [start for start, _ in made] == controlled
    compare(made, whole)
    wrong = vaces(codec, 255 - frames, mask), vaces(codec, frames, 255 - mask)
    for other in wrong:
        with pytest.raises(AssertionError):
            compare(made, other)
