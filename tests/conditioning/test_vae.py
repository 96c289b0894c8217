"""Streams through the VAE: interleaved equals alone bit for bit, chunked equals at once.

Against the class's own one-shot calls there is a tolerance of rounding: its 1x1 convolution runs over all frames at
once, and kernels are chosen by size.
"""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan

from vace_adapt.conditioning.vae import DecoderStream, EncoderStream, VaeCodec, ZeroVideo
from vace_adapt.embedded.tiny import tiny_vae
from vace_adapt.errors import CheckpointError, InputError

CHUNKS = (9, 12, 12)
SIZE = (1, 16, 24)


def video(seed: int, frames: int = 33) -> torch.Tensor:
    return torch.rand((1, 3, frames, 16, 24), generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def codec():
    return VaeCodec(tiny_vae(0))


def encode(stream, pixels):
    return torch.cat([stream.encode(part) for part in pixels.split(CHUNKS, dim=2)], dim=2)


def new_stream(codec):
    return EncoderStream(codec, codec.zero_video(SIZE))


def close(a, b):
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=1e-6)


def at_once(codec, pixels):
    return codec.vae.encode(pixels).latent_dist.mean


def test_encode_in_chunks_equals_encode_at_once(codec):
    assert close(encode(new_stream(codec), video(1)), at_once(codec, video(1)))


def test_interleaved_streams_equal_isolated_ones(codec):
    videos = [video(seed) for seed in range(3)]
    streams = [new_stream(codec) for _ in videos]
    parts = [[] for _ in videos]
    start = 0
    for size in CHUNKS:
        for pixels, stream, made in zip(videos, streams, parts, strict=True):
            made.append(stream.encode(pixels[:, :, start : start + size]))
            codec.vae.encode(video(9, 5))
            codec.vae.decode(torch.zeros(1, 16, 2, 2, 3))
        start += size
    for pixels, made in zip(videos, parts, strict=True):
        assert torch.equal(torch.cat(made, dim=2), encode(new_stream(codec), pixels))


def test_decode_in_chunks_equals_decode_at_once(codec):
    latents = torch.randn(2, 16, 9, 2, 3)
    streams = [DecoderStream(codec) for _ in range(2)]
    parts = []
    for part in latents.split(3, dim=2):
        streams[1].decode(part.flip(0))
        parts.append(streams[0].decode(part))
    assert [part.shape[2] for part in parts] == [9, 12, 12]
    assert close(torch.cat(parts, dim=2), codec.vae.decode(latents).sample)
    alone = DecoderStream(codec)
    assert torch.equal(torch.cat(parts, dim=2), torch.cat([alone.decode(x) for x in latents.split(3, dim=2)], dim=2))


def test_zeros_are_remembered_exactly(codec):
    """What is remembered equals what a stream of zero frames encodes to, chunk by chunk, bit for bit."""
    remembered, encoded = new_stream(codec), new_stream(codec)
    for chunk in range(20):
        pixels = torch.zeros(1, 3, 12 if chunk else 9, 16, 24)
        assert torch.equal(remembered.encode_zeros(3), encoded.encode(pixels))


def test_zeros_are_remembered_in_bounded_space(codec):
    zeros = ZeroVideo(codec, SIZE)
    zeros.encoded(0, 60)
    known = len(zeros._known)
    assert known < 60
    assert zeros.encoded(10_000, 3).shape[2] == 3
    assert len(zeros._known) == known


@pytest.mark.parametrize("lead", [0, 3, 60])
def test_a_stream_that_starts_with_nothing_continues_exactly(codec, lead):
    """`lead` latent frames of nothing, then frames: bit for bit as if the zeros had been encoded."""
    ours, plain = new_stream(codec), new_stream(codec)
    frames = video(1, 12 if lead else 9)
    if lead:
        ours.encode_zeros(lead)
        plain.encode(torch.zeros(1, 3, 4 * lead - 3, 16, 24))
    assert torch.equal(ours.encode(frames), plain.encode(frames))


def test_zeros_after_frames_are_really_encoded(codec):
    ours, plain = new_stream(codec), new_stream(codec)
    ours.encode(video(1, 9))
    plain.encode(video(1, 9))
    assert torch.equal(ours.encode_zeros(3), plain.encode(torch.zeros(1, 3, 12, 16, 24)))


def test_skip_forgets_what_was_given(codec):
    given, never = new_stream(codec), new_stream(codec)
    given.encode(video(1, 9))
    given.skip(3)
    never.encode_zeros(6)
    assert torch.equal(given.encode(video(2, 12)), never.encode(video(2, 12)))


@pytest.mark.parametrize(("frames", "rule"), [(2, "1 [+] 4n"), (0, "1 [+] 4n")])
def test_frames_that_do_not_group(codec, frames, rule):
    with pytest.raises(InputError, match=f"a causal VAE takes {rule} frames here, not {frames}"):
        EncoderStream(codec, codec.zero_video(SIZE)).encode(video(1, frames))


def test_later_frames_that_do_not_group(codec):
    stream = EncoderStream(codec, codec.zero_video(SIZE))
    stream.encode(video(1, 9))
    with pytest.raises(InputError, match="takes 4n frames here, not 9"):
        stream.encode(video(1, 9))


def test_normalisation_has_an_inverse(codec):
    latents = torch.randn(1, 16, 2, 2, 3)
    assert torch.allclose(codec.denormalise(codec.normalise(latents)), latents, atol=1e-5)
    mean = torch.tensor(codec.vae.config.latents_mean).view(1, 16, 1, 1, 1)
    assert torch.allclose(codec.normalise(mean), torch.zeros_like(mean))


def test_another_vae_is_refused_with_its_numbers():
    with pytest.raises(CheckpointError, match="16 channels, 4x8x8.*not one of 48 channels, 4x8x8"):
        VaeCodec(AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, z_dim=48))
