"""Encoded portraits: each with its own reference, control and area."""

from __future__ import annotations

from functools import partial

import numpy as np
import portraits
import pytest
import shards
import torch
from latents import Codec, latent_area
from portraits import COLOURLESS, encode_portraits, load_portraits
from shards import write_shard

from vace_adapt.embedded.tiny import tiny_vae
from vace_adapt.embedded.world.captions import caption
from vace_adapt.embedded.world.controls import CONTROLS
from vace_adapt.embedded.world.render import reference, render
from vace_adapt.embedded.world.scene import PUPPET, draw_scene

FRAMES, SEED = 9, 40


@pytest.fixture(scope="module")
def codec():
    vae = tiny_vae(0)
    return Codec(vae, (torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)))


@pytest.fixture
def folder(tmp_path, codec, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 3)
    monkeypatch.setattr(portraits, "draw_scene", lambda seed, things: draw_scene(seed, FRAMES, things=things))
    for number in range(2):
        write_shard(tmp_path, number, partial(encode_portraits, codec), SEED)
    return tmp_path


def test_shards_hold_the_clips_of_their_seeds(folder, codec):
    loaded = load_portraits(folder)
    assert len(loaded) == len(loaded.captions) == 6
    for i in range(6):
        clip = render(draw_scene(SEED + i, FRAMES, things=1))
        thing = clip.scene.things[0]
        assert torch.equal(loaded.video[i], codec(clip.frames.astype(np.float32)))
        assert torch.equal(loaded.references[i], codec(reference(thing)[None].astype(np.float32)))
        names = (*COLOURLESS, "pose") if thing.kind == PUPPET else COLOURLESS
        assert any(torch.equal(loaded.control[i], codec(CONTROLS[name](clip).astype(np.float32))) for name in names)
        assert torch.equal(loaded.area[i], latent_area(torch.from_numpy(clip.masks[0] > 0.5)))
        assert loaded.captions[i] == (caption(clip.scene), caption(clip.scene, appearance=False))


def test_no_control_shows_colours():
    assert set(COLOURLESS) == set(CONTROLS) - {"gray", "pose"}
