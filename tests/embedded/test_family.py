"""The trained family as it ships: its layouts, its size, how fast it loads, and that its control is seen."""

from __future__ import annotations

import re
import time
from hashlib import sha256

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
from safetensors import safe_open
from support import ROOT

from vace_adapt import load_pipeline
from vace_adapt.embedded.family import FAMILY, FAMILY_CONTROL_LAYERS, FAMILY_FOLDER
from vace_adapt.embedded.world.captions import caption
from vace_adapt.embedded.world.controls import CONTROLS
from vace_adapt.embedded.world.render import render
from vace_adapt.embedded.world.scene import draw_scene

STUDENTS = sorted(ROOT.glob("plugins/*/*/weights/*.safetensors"))
FILES = [*sorted(FAMILY_FOLDER.rglob("*.safetensors")), *STUDENTS]
CARD = (FAMILY_FOLDER / "README.md").read_text()


@pytest.fixture(scope="module")
def family():
    return load_pipeline("longlive", device="cpu", dtype="float32")


def test_nothing_named_is_the_family(family):
    assert family.parts.trained
    assert family.parts.backbone == FAMILY
    assert family.context.layers == FAMILY_CONTROL_LAYERS


def test_everything_is_in_half_precision_and_small():
    for file in FILES:
        with safe_open(file, framework="pt") as tensors:
            assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {torch.float16}  # noqa: SIM118
    assert len(FILES) >= 4
    assert sum(file.stat().st_size for file in FILES) < 40e6


def test_the_card_is_of_these_files():
    on_card = dict(re.findall(r"^\| (\S+\.safetensors) \| [\d.]+ \| `(\w+)` \|$", CARD, flags=re.MULTILINE))
    assert on_card == {str(file.relative_to(ROOT)): sha256(file.read_bytes()).hexdigest()[:16] for file in FILES}


def test_diffusers_reads_it():
    AutoencoderKLWan.from_pretrained(FAMILY_FOLDER / "vae", local_files_only=True)
    model = WanVACETransformer3DModel.from_pretrained(FAMILY_FOLDER / "transformer", local_files_only=True)
    assert model.config.vace_layers == list(FAMILY_CONTROL_LAYERS)


def test_it_loads_at_once(family):
    """The best of three: the machine may be busy."""
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        load_pipeline("longlive", device="cpu", dtype="float32")
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 2


def overlap(frames, clip):
    """Intersection over union of what is bright, as only things are, with the true things."""
    made, true = frames.max(axis=-1) > 170, clip.masks.max(axis=0) > 0.5
    return (made & true).sum() / (made | true).sum()


def followed(family, clip, scale):
    with family.stream(caption(clip.scene), height=64, width=64, seed=0, num_frames=45, scale=scale) as stream:
        stream.feed(CONTROLS["depth"](clip), last=True)
        return overlap(np.concatenate([chunk.frames[0].numpy() for chunk in stream]), clip)


@pytest.mark.parametrize("seed", [20, 21])
def test_a_stream_follows_a_depth_control(family, seed):
    """A clip that no model was trained on; without hints it is at chance."""
    clip = render(draw_scene(seed, 45))
    assert followed(family, clip, 1.0) > 0.5
    assert followed(family, clip, 0.0) < 0.3
