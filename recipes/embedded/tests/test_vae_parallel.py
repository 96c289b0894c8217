"""A clip at once against the class's own chunk-by-chunk encode and decode, and against the product's streams.

In float64, so that what is left is rounding and not a difference that is small.
"""

from __future__ import annotations

import pytest
import torch
import vae_parallel
from einops import rearrange
from vae import new_vae
from vae_parallel import decode, encode

from vace_adapt.conditioning.vae import DecoderStream, EncoderStream, VaeCodec
from vace_adapt.embedded.tiny import seeded, tiny_vae

FRAMES = (1, 5, 9, 17)
HEIGHT, WIDTH = 16, 24


@pytest.fixture(scope="module")
def vae():
    return tiny_vae(0).double()


def video(frames, batch=2):
    shape = (batch, 3, frames, HEIGHT, WIDTH)
    return torch.rand(shape, generator=torch.Generator().manual_seed(frames), dtype=torch.float64) * 2 - 1


def latents(frames, batch=2):
    shape = (batch, 16, 1 + (frames - 1) // 4, HEIGHT // 8, WIDTH // 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(frames), dtype=torch.float64)


def close(a, b, within=1e-10):
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=within)


def encodes_as_the_class_does(vae, frames):
    mean, log_variance = encode(vae, video(frames))
    expected = vae.encode(video(frames)).latent_dist
    assert close(mean, expected.mean)
    assert close(log_variance.clamp(-30, 20), expected.logvar)


def decodes_as_the_class_does(vae, frames):
    made, expected = decode(vae, latents(frames)), vae.decode(latents(frames)).sample
    assert made.shape[2] == frames
    assert close(made.clamp(-1, 1), expected)
    assert (expected.abs() < 1).double().mean() > 0.5


@pytest.mark.parametrize("frames", FRAMES)
def test_encode(vae, frames):
    encodes_as_the_class_does(vae, frames)


@pytest.mark.parametrize("frames", FRAMES)
def test_decode(vae, frames):
    decodes_as_the_class_does(vae, frames)


def test_the_sizes_that_are_trained():
    vae = seeded(new_vae, 0, "sizes").double()
    encodes_as_the_class_does(vae, 5)
    decodes_as_the_class_does(vae, 5)


@pytest.mark.parametrize("frames", FRAMES)
def test_streams_of_the_product_make_the_same(vae, frames):
    codec = VaeCodec(vae)
    going_in, coming_out = EncoderStream(codec, codec.zero_video((2, HEIGHT, WIDTH))), DecoderStream(codec)
    parts = video(frames).split([1, *[4] * ((frames - 1) // 4)], dim=2)
    assert close(encode(vae, video(frames))[0], torch.cat([going_in.encode(part) for part in parts], dim=2))
    shown = torch.cat([coming_out.decode(one) for one in latents(frames).split(1, dim=2)], dim=2)
    assert close(decode(vae, latents(frames)).clamp(-1, 1), shown)


def test_folding_that_forgets_the_frames_between_is_noticed(vae, monkeypatch):
    shrunk = vae_parallel._shrunk

    def forgetful(layer, x):
        made = shrunk(layer, x)
        return torch.cat([made[:, :, :1], made[:, :, :-1]], dim=2) if made.shape[2] < x.shape[2] else made

    monkeypatch.setattr(vae_parallel, "_shrunk", forgetful)
    with pytest.raises(AssertionError):
        encodes_as_the_class_does(vae, 9)


def test_unfolding_in_the_wrong_order_is_noticed(vae, monkeypatch):
    def swapped(x, pattern, **sizes):
        return rearrange(x, pattern.replace("(two c) t h w ->", "(c two) t h w ->"), **sizes)

    monkeypatch.setattr(vae_parallel, "rearrange", swapped)
    with pytest.raises(AssertionError):
        decodes_as_the_class_does(vae, 9)


def test_fresh_weights_treat_every_frame_alike():
    """A picture that stands still encodes to latents that do, and decodes from them."""
    vae = new_vae().double()
    still = video(1, batch=1).expand(-1, -1, 9, -1, -1)
    mean, log_variance = encode(vae, still)
    assert close(mean, mean[:, :, :1].expand_as(mean), 1e-6)  # three thirds of a float32
    assert (log_variance < -3).all()
    made = decode(vae, mean)
    assert close(made, made[:, :, :1].expand_as(made), 1e-6)
    assert not close(encode(vae, video(9, batch=1))[0], mean, 1e-2)
