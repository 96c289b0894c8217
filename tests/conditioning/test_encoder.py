"""Control latents: channels, masks, references, streams."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.masks import mask_frames, pack_mask
from vace_adapt.conditioning.vae import EncoderStream, VaeCodec
from vace_adapt.embedded.tiny import tiny_vae
from vace_adapt.time_map import TimeMap

HEIGHT, WIDTH = 16, 24
TIME = TimeMap(3, 3)


@pytest.fixture(scope="module")
def codec():
    return VaeCodec(tiny_vae(0))


def encoder(codec, batch=1, mask_time="group", time=TIME):
    return ControlEncoder(codec, time, (batch, HEIGHT, WIDTH), mask_time)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def video(frames: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    return rand(batch, 3, frames, HEIGHT, WIDTH, seed=seed) * 2 - 1


def moving_mask(frames: int, batch: int = 1) -> torch.Tensor:
    mask = torch.zeros(batch, 1, frames, HEIGHT, WIDTH)
    for t in range(frames):
        mask[:, :, t, :, t % WIDTH :] = 1
    return mask


def isolated(codec, *parts: torch.Tensor) -> torch.Tensor:
    stream = EncoderStream(codec, codec.zero_video((parts[0].shape[0], HEIGHT, WIDTH)))
    return codec.normalise(torch.cat([stream.encode(part) for part in parts], dim=2))


def test_inactive_and_reactive_are_separate_streams(codec):
    control = encoder(codec)
    frames, mask = [video(9, 1), video(12, 2)], [moving_mask(9), moving_mask(12)]
    found = torch.cat([control.control(i, f, m) for i, (f, m) in enumerate(zip(frames, mask, strict=True))], dim=2)
    assert found.shape == (1, 96, 6, 2, 3)
    kept = [f * (m <= 0.5) for f, m in zip(frames, mask, strict=True)]
    made = [f * (m > 0.5) for f, m in zip(frames, mask, strict=True)]
    assert torch.equal(found[:, :16], isolated(codec, *kept))
    assert torch.equal(found[:, 16:32], isolated(codec, *made))


def test_no_mask_means_generate_everywhere(codec):
    frames = video(9)
    ones = torch.ones(1, 1, 9, HEIGHT, WIDTH)
    assert torch.equal(encoder(codec).control(0, frames, None), encoder(codec).control(0, frames, ones))


def test_all_keep_leaves_the_reactive_part_empty(codec):
    frames = video(9)
    found = encoder(codec).control(0, frames, torch.zeros(1, 1, 9, HEIGHT, WIDTH))
    assert torch.equal(found[:, 16:32], encoder(codec).nothing(0, 3)[:, 16:32])
    assert torch.equal(found[:, :16], isolated(codec, frames))
    assert not found[:, 32:].any()


def test_nothing_is_zero_frames_under_an_all_one_mask(codec):
    nothing = encoder(codec)
    zero = isolated(codec, torch.zeros(1, 3, 9, HEIGHT, WIDTH), torch.zeros(1, 3, 12, HEIGHT, WIDTH))
    for start, latents in ((0, 3), (3, 3), (2, 3), (4, 1)):
        found = nothing.nothing(start, latents)
        expected = zero[:, :, start : start + latents]
        assert torch.allclose(found[:, :16], expected, rtol=0, atol=0 if latents == 3 and start % 3 == 0 else 1e-6)
        assert torch.equal(found[:, 16:32], found[:, :16])
        assert torch.equal(found[:, 32:], torch.ones(1, 64, latents, 2, 3))


def test_control_expires_with_its_chunk(codec):
    """After a chunk without control, the next is encoded as if none had ever been given."""
    given, never = encoder(codec), encoder(codec)
    given.control(0, video(9, 1), moving_mask(9))
    given.skip(1)
    never.skip(0)
    never.skip(1)
    frames = video(12, 2)
    assert torch.equal(given.control(2, frames, None), never.control(2, frames, None))


def test_each_reference_is_encoded_alone(codec):
    images = rand(1, 3, 3, HEIGHT, WIDTH, seed=4) * 2 - 1
    control, latents = encoder(codec).references(images)
    for i in range(3):
        alone = codec.vae.encode(images[:, :, i : i + 1]).latent_dist.mean
        assert torch.equal(latents[:, :, i : i + 1], alone)
        assert torch.equal(control[:, :16, i : i + 1], codec.normalise(alone))
    assert not control[:, 16:].any(), "no reactive part, no mask"
    flipped, _ = encoder(codec).references(images.flip(2))
    assert torch.equal(flipped, control.flip(2)), "the order given is the order kept"


def test_batch_of_two_equals_two_of_one(codec):
    frames, mask = video(9, 1, batch=2), moving_mask(9, batch=2)
    both = encoder(codec, batch=2).control(0, frames, mask)
    for row in range(2):
        part = slice(row, row + 1)
        assert torch.allclose(both[part], encoder(codec).control(0, frames[part], mask[part]), atol=1e-6)


@pytest.mark.parametrize("frames", [5, 9, 12, 13, 21, 33, 81])
def test_nearest_rule_is_torch_nearest_exact(frames):
    latents = (frames + 3) // 4
    ramp = torch.arange(frames).float().view(1, 1, frames, 1, 1)
    expected = F.interpolate(ramp, size=(latents, 1, 1), mode="nearest-exact").flatten().long().tolist()
    assert mask_frames("nearest", 0, latents, frames) == expected


def test_group_rule_stays_inside_each_latents_own_frames():
    assert mask_frames("group", 0, 3, 9) == [0, 3, 7]
    assert mask_frames("group", 3, 3, 12) == [2, 6, 10] == mask_frames("nearest", 3, 3, 12)
    assert mask_frames("nearest", 0, 3, 9) == [1, 4, 7], "frame 0 is never looked at"


def test_mask_channels_are_the_pixels_of_a_latent_position():
    mask = rand(2, 1, 1, HEIGHT, WIDTH)
    packed = pack_mask(mask, [0])
    assert packed.shape == (2, 64, 1, 2, 3)
    for row, column in ((0, 0), (3, 5), (7, 7)):
        assert torch.equal(packed[:, 8 * row + column, 0], mask[:, 0, 0, row::8, column::8])


def test_soft_masks_are_split_at_half_but_kept_as_they_are(codec):
    frames, soft = video(9), torch.full((1, 1, 9, HEIGHT, WIDTH), 0.6)
    found = encoder(codec).control(0, frames, soft)
    assert torch.equal(found[:, :32], encoder(codec).control(0, frames, None)[:, :32])
    assert torch.allclose(found[:, 32:], torch.tensor(0.6))
