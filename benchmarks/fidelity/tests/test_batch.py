"""Batch VACE gets what the product's composition and mask packing make, though it shares no code with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from batch import pack, vace_inputs
from cases import CASES

from vace_adapt.conditioning.masks import mask_frames, pack_mask

FRAMES = 13


@pytest.mark.parametrize("rule", ["nearest", "group"])
@pytest.mark.parametrize("name", CASES)
def test_masks_are_packed_as_the_product_does_by_either_rule(name, rule):
    clip = CASES[name].clip(0, FRAMES)
    _, mask = vace_inputs(CASES[name].give(clip), FRAMES)
    latents = (FRAMES + 3) // 4
    chosen = mask_frames(rule, 0, latents, FRAMES)
    expected = pack_mask(torch.from_numpy(mask)[None, None], chosen)
    assert torch.equal(pack(mask, rule), expected.float())


def test_what_is_kept_and_what_steers():
    clip = CASES["inpaint + depth"].clip(0, FRAMES)
    given = CASES["inpaint + depth"].give(clip)
    video, mask = vace_inputs(given, FRAMES)
    assert np.array_equal(mask, given.mask > 0)
    assert np.array_equal(video[~mask], clip.frames[~mask])
    assert np.array_equal(video[mask], given.control[mask])


def test_a_key_frame_stands_alone():
    clip = CASES["last frame"].clip(0, FRAMES)
    video, mask = vace_inputs(CASES["last frame"].give(clip), FRAMES)
    assert mask[:-1].all()
    assert not mask[-1].any()
    assert (video[:-1] == 127.5).all()
    assert np.array_equal(video[-1], clip.frames[-1])


def test_a_key_frame_fills_the_frames_of_its_latent():
    clip = CASES["first and last frame"].clip(0, FRAMES)
    video, mask = vace_inputs(CASES["first and last frame"].give(clip), FRAMES, "group")
    kept = [0, 9, 10, 11, 12]
    assert mask.reshape(FRAMES, -1).all(axis=1).tolist() == [frame not in kept for frame in range(FRAMES)]
    assert not mask[kept].any()
    assert np.array_equal(video[0], clip.frames[0])
    assert all(np.array_equal(video[frame], clip.frames[-1]) for frame in kept[1:])
