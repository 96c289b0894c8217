"""Encoded clips: the product's own control latents, and shards that hold what they should."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import conditions
import latents
import numpy as np
import pytest
import shards
import torch
from conditions import draw_condition
from latents import Codec, control_of, encode_clips, latent_area, load_latents, measure_statistics, minor_part
from shards import write_shard

from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.vae import VaeCodec
from vace_adapt.embedded.tiny import tiny_vae
from vace_adapt.embedded.world.captions import caption
from vace_adapt.embedded.world.render import reference, render
from vace_adapt.embedded.world.scene import draw_scene
from vace_adapt.time_map import TimeMap

FRAMES, LATENTS = 13, 4
HALF = 2e-3
"""Rounding of float16, relative."""


@pytest.fixture(scope="module")
def vae():
    return tiny_vae(0)


@pytest.fixture(scope="module")
def codec(vae):
    return Codec(vae, (torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)))


@pytest.fixture(scope="module")
def product(vae):
    return VaeCodec(vae)


def encoder(product, rule="nearest"):
    """The product's encoder for one chunk that is the whole clip."""
    return ControlEncoder(product, TimeMap(LATENTS, 3), (1, 64, 64), rule)


def near(a, b):
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=HALF, atol=HALF)


def is_the_products_encoding(codec, product, condition, rule="nearest"):
    frames = torch.from_numpy(condition.frames).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
    mask = torch.from_numpy(condition.mask)[None, None].float()
    expected = encoder(product, rule).control(0, frames, mask)[0]
    inactive, reactive, packed = control_of(codec, condition)
    assert (inactive.dtype, packed.dtype) == (torch.float16, torch.bool)
    assert near(inactive, expected[:16])
    assert near(reactive, expected[16:32])
    assert torch.equal(packed.float(), expected[32:])


@pytest.fixture(scope="module")
def clip():
    return render(draw_scene(1, FRAMES, things=2))


@pytest.mark.parametrize("family", conditions.FAMILIES)
def test_conditions_are_encoded_as_the_product_does(family, clip, codec, product, monkeypatch):
    monkeypatch.setattr(conditions, "FAMILIES", {family: 1.0})
    is_the_products_encoding(codec, product, draw_condition(clip, np.random.default_rng(3)))


def test_other_masks_and_swapped_videos_are_noticed(clip, codec, product, monkeypatch):
    monkeypatch.setattr(conditions, "FAMILIES", {"inpaint": 1.0})
    condition = draw_condition(clip, np.random.default_rng(3))
    first = np.zeros_like(condition.mask)
    first[1:] = True
    with pytest.raises(AssertionError):
        is_the_products_encoding(codec, product, replace(condition, mask=first), rule="group")
    monkeypatch.setattr(latents, "mask_frames", lambda rule, start, count, frames: [0] * count)
    with pytest.raises(AssertionError):
        is_the_products_encoding(codec, product, replace(condition, mask=first))
    encode = control_of

    def swapped(codec, condition):
        inactive, reactive, packed = encode(codec, condition)
        return reactive, inactive, packed

    monkeypatch.undo()
    monkeypatch.setitem(globals(), "control_of", swapped)
    with pytest.raises(AssertionError):
        is_the_products_encoding(codec, product, condition)


def test_references_are_encoded_as_the_product_does(clip, codec, product):
    picture = reference(clip.scene.things[0])
    pixels = torch.from_numpy(picture).float().permute(2, 0, 1)[None, :, None] / 127.5 - 1
    expected, _ = encoder(product).references(pixels)
    assert near(codec(picture[None]), expected[0, :16])


def test_gray_is_nothing(codec, product):
    expected = encoder(product).nothing(0, LATENTS)[0]
    gray = codec(np.full((FRAMES, 64, 64, 3), 127.5, np.float32))
    assert near(gray, expected[:16])
    assert near(gray, expected[16:32])


def test_statistics_normalise(vae, monkeypatch):
    monkeypatch.setattr(latents, "draw_scene", lambda seed: draw_scene(seed, 5))
    codec = Codec(vae, measure_statistics(vae, 3, first_seed=10))
    encoded = torch.stack([codec(render(draw_scene(seed, 5)).frames) for seed in (10, 11, 12)]).float()
    assert torch.allclose(encoded.mean(dim=(0, 2, 3, 4)), torch.zeros(16), atol=1e-2)
    assert torch.allclose(encoded.std(dim=(0, 2, 3, 4)), torch.ones(16), atol=1e-2)


# --- parts --------------------------------------------------------------------------------------------------------


def test_the_area_covers_every_cell_that_is_seen():
    seen = torch.zeros(9, 16, 16, dtype=torch.bool)
    seen[0, 3, 3] = seen[4, 9, 1] = seen[5, 0, 15] = True
    area = latent_area(seen)
    expected = torch.zeros(3, 2, 2, dtype=torch.bool)
    expected[0, 0, 0] = expected[1, 1, 0] = expected[2, 0, 1] = True
    assert torch.equal(area, expected)


def masked(*kept):
    """Nine frames of 16x16 to be made, but for some (frames, rows, columns)."""
    mask = np.ones((9, 16, 16), bool)
    for place in kept:
        mask[place] = False
    return mask


def test_the_minor_part_is_what_is_kept_or_what_is_made():
    first, row, rest = masked(np.s_[0]), masked(np.s_[:, :8]), masked(np.s_[:, 8:], np.s_[:, :, 8:])
    assert minor_part(first).nonzero()[:, 0].unique().tolist() == [0]
    last = minor_part(masked(np.s_[-1]))
    assert last.nonzero()[:, 0].unique().tolist() == [2], "of the latent that the frame lies in"
    assert minor_part(rest).nonzero()[:, 1:].unique(dim=0).tolist() == [[0, 0]]
    assert torch.equal(minor_part(rest), ~latent_area(torch.from_numpy(~rest)))
    assert minor_part(row).sum() == minor_part(row).numel() / 2


@pytest.mark.parametrize("mask", [np.ones((9, 16, 16), bool), np.zeros((9, 16, 16), bool)])
def test_where_all_is_alike_no_part_is_minor(mask):
    assert not minor_part(mask).any()


# --- shards -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """Two clips of five frames in a shard."""
    monkeypatch.setattr(shards, "SHARD", 2)
    monkeypatch.setattr(latents, "draw_scene", lambda seed: draw_scene(seed, 5))


def test_shards_hold_every_clip(tmp_path, codec, small):
    for number in range(2):
        write_shard(tmp_path, number, partial(encode_clips, codec), first_seed=70)
    assert len(list(tmp_path.iterdir())) == 2
    loaded = load_latents(tmp_path)
    assert len(loaded) == 4
    assert loaded.video.shape == (4, 16, 2, 8, 8)
    assert loaded.inactive.shape == loaded.reactive.shape == (4, 4, 16, 2, 8, 8)
    assert (loaded.mask.shape, loaded.mask.dtype) == ((4, 4, 64, 2, 8, 8), torch.bool)
    assert (loaded.minor.shape, loaded.minor.dtype) == ((4, 4, 2, 8, 8), torch.bool)
    assert loaded.references.shape == (4, 3, 16, 1, 8, 8)
    for number, seed in enumerate(range(70, 74)):
        clip = render(draw_scene(seed, 5))
        assert torch.equal(loaded.video[number], codec(clip.frames))
        assert loaded.captions[number] == (caption(clip.scene), caption(clip.scene, appearance=False))
        assert loaded.things[number] == len(clip.scene.things)
        assert len(loaded.names[number]) == 4
        for place in range(3):
            one = clip.scene.things[place % len(clip.scene.things)]
            assert torch.equal(loaded.references[number, place], codec(reference(one)[None]))
        whole = [name for name in loaded.names[number] if name in conditions.CONTROLS]
        assert loaded.mask[number].flatten(1).all(dim=1).sum() >= len(whole)
        random = np.random.default_rng([seed, 2])
        given = [conditions.draw_condition(clip, random) for _ in range(4)]
        assert torch.equal(loaded.minor[number], torch.stack([minor_part(one.mask) for one in given]))
