"""Control latents of every task: what is composed chunk by chunk encodes to what VACE's own preprocessing encodes to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from composition.composing import Stream, given
from golden_annotators import golden

from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.vae import VaeCodec
from vace_adapt.embedded.tiny import tiny_vae
from vace_adapt.time_map import TimeMap

TIME = TimeMap(1, 2)
"""17 frames in chunks of 1, 8 and 8."""


@pytest.fixture(scope="module")
def codec():
    return VaeCodec(tiny_vae(0))


def vaces(codec, frames, mask):
    """What VACE encodes, all at once: frames 0..255 [T, H, W, 3] and mask 0 or 255."""
    count, height, width = mask.shape
    encoder = ControlEncoder(codec, TimeMap(1 + (count - 1) // 4, 1), (1, height, width), "group")
    pixels = torch.from_numpy(frames).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
    return encoder.control(0, pixels, torch.from_numpy(mask)[None, None].float() / 255)


def ours(codec, stream, time, chunks, size, fed=None):
    """What a stream encodes, chunk by chunk: first latent frame and control latents of every controlled chunk."""
    encoder = ControlEncoder(codec, time, (1, *size), "group")
    made = []
    for chunk in range(chunks):
        span = slice(time.pixel_start(chunk), time.pixel_start(chunk + 1))
        composed = stream.next(None if fed is None else given(*(None if one is None else one[span] for one in fed)))
        if composed is None:
            encoder.skip(chunk)
        else:
            made.append((time.latent_start(chunk), encoder.control(chunk, composed.frames, composed.mask)))
    return made


@pytest.mark.parametrize(
    ("name", "idle"),
    [
        ("firstframe", "nothing"),
        ("lastframe", "nothing"),
        ("firstlastframe", "nothing"),
        ("firstframe", "bare"),
        ("lastframe", "bare"),
    ],
)
def test_frames(codec, name, idle):
    inputs = golden("frame_modes")
    stream = Stream(16, 24, TIME, anchor="frame", idle=idle)
    if "first" in name:
        stream.anchor(inputs["input.image"][None], 0)
    if "last" in name:
        stream.anchor(inputs["input.image_2"][None], 16)
    check(codec, stream, TIME, 3, "frame_modes", name)


@pytest.mark.parametrize(("name", "at"), [("firstclip", (0,)), ("lastclip", (12,)), ("firstlastclip", (0, 13))])
def test_clips(codec, name, at):
    inputs = golden("clip_modes")
    stream = Stream(16, 24, TIME, anchor="frame", idle="nothing")
    for clip, frame in zip((inputs["input.clip"], inputs["input.clip_2"]), at, strict=False):
        stream.anchor(clip, frame)
    check(codec, stream, TIME, 3, "clip_modes", name)


def test_inpainting(codec):
    inputs = golden("inpainting")
    stream = Stream(64, 96, TimeMap(1, 1), structure=[], blank=128)
    fed = inputs["input.frames"], np.stack([inputs["input.mask"]] * 5)
    check(codec, stream, TimeMap(1, 1), 2, "inpainting", "mask", fed)


def test_inpainting_of_a_box(codec):
    box = {"mask_box": {"box": [10 / 96, 12 / 64, 60 / 96, 50 / 64]}}
    stream = Stream(64, 96, TimeMap(1, 1), structure=[], blank=128, mask={"annotator": "mask_box"}, annotators=box)
    check(codec, stream, TimeMap(1, 1), 2, "inpainting", "bbox", (golden("inpainting")["input.frames"], None))


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


def check(codec, stream, time, chunks, case, name, fed=None):
    expected = golden(case)
    frames, mask = expected[f"output.{name}.frames"], expected[f"output.{name}.masks"]
    whole = vaces(codec, frames, mask)
    made = ours(codec, stream, time, chunks, mask.shape[1:], fed)
    assert len(made) == chunks or stream.composer._settings.idle == "bare"
    compare(made, whole)
    assert (whole - vaces(codec, frames[::-1].copy(), mask[::-1].copy())).abs().max() > 1e-2
