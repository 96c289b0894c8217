"""What is kept stays kept, and where the source stands on the frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import HEIGHT, WIDTH, distance, frames, opened, picture, run, same, stream

from vace_adapt import load_pipeline
from vace_adapt.conditioning.vae import EncoderStream
from vace_adapt.contract import Capability, Support
from vace_adapt.errors import InputError, SettingsError, Unsupported

MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[8:24, 16:40] = 255


@pytest.mark.parametrize("seam", [0, 4])
def test_kept_pixels_come_out_bit_for_bit(pipe, seam):
    fed = frames(33)
    chunks = run(opened(pipe, controls={"structure": [], "preserve": "pixel", "seam": seam}), fed, MASK)
    made = np.concatenate([chunk.frames[0].numpy() for chunk in chunks])
    assert np.array_equal(made[:, MASK == 0], fed[:, MASK == 0])
    model = run(opened(pipe, controls={"structure": []}), fed, MASK)
    plain = np.concatenate([chunk.frames[0].numpy() for chunk in model])
    inside = MASK > 0
    inside[8 : 8 + seam] = inside[24 - seam : 24] = False
    inside[:, 16 : 16 + seam] = inside[:, 40 - seam : 40] = False
    assert np.array_equal(made[:, inside], plain[:, inside])
    assert not np.array_equal(plain[:, MASK == 0], fed[:, MASK == 0])


def test_kept_latents_are_the_sources(pipe):
    fed = frames(33)
    chunks = run(opened(pipe, controls={"structure": [], "preserve": "latent"}), fed, MASK)
    pixels = torch.from_numpy(fed).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    zeros = pipe.codec.zero_video((1, HEIGHT, WIDTH))
    encoded = pipe.codec.normalise(EncoderStream(pipe.codec, zeros).encode(pixels))
    latents = torch.cat([chunk.latents for chunk in chunks], dim=2)
    kept = torch.from_numpy(MASK.reshape(HEIGHT // 8, 8, WIDTH // 8, 8).max(axis=(1, 3)) == 0)
    assert distance([latents[..., kept]], [encoded[..., kept]]) < 1e-5
    assert (latents[..., ~kept] - encoded[..., ~kept]).abs().min() > 0
    assert 0 < kept.sum() < kept.numel()


def test_a_latent_of_which_any_pixel_is_generated_is_not_kept(pipe):
    mask = np.zeros((9, HEIGHT, WIDTH), np.uint8)
    mask[6, 9, 17] = 255
    keep = {"structure": [], "preserve": "latent"}
    with opened(pipe, num_frames=9, controls=keep) as session:
        session.feed(frames(9), mask)
        made = next(session).latents
    with opened(pipe, num_frames=9, controls=keep) as session:
        session.feed(frames(9), np.zeros((HEIGHT, WIDTH), np.uint8))
        whole = next(session).latents
    changed = (made != whole).any(dim=1)[0]
    assert changed.nonzero().tolist() == [[2, 1, 2]]


def test_nothing_kept_is_nothing_changed(pipe):
    fed = frames(9)
    for preserve in ("latent", "pixel"):
        kept = run(opened(pipe, controls={"preserve": preserve}), fed)
        assert same([c.latents for c in kept], [c.latents for c in run(opened(pipe), fed)])


def test_a_loop_that_does_not_keep():
    pipe = load_pipeline("longlive", seed=0, device="cpu")
    declared = Capability(support=Support.NOT_IMPLEMENTED, reason="its loop is closed")
    capabilities = {**pipe.hooks.info.capabilities, "preserve_latents": declared}
    pipe.hooks.info = pipe.hooks.info.model_copy(update={"capabilities": capabilities})
    with pytest.raises(
        Unsupported, match="pipeline 'longlive': preserve_latents is not implemented: its loop is closed"
    ):
        opened(pipe, controls={"preserve": "latent"})


def test_a_keyframe_is_exact_and_its_group_does_not_stand_still(pipe):
    target = picture(3, HEIGHT, WIDTH)
    with opened(pipe, num_frames=9, controls={"preserve": "pixel"}) as session:
        session.keyframe(target, frame=6)
        made = next(session).frames[0].numpy()
    assert [t for t in range(9) if np.array_equal(made[t], target)] == [6]


def test_what_a_mask_keeps_is_exact_in_filled_frames_too(pipe):
    fed, keyframe = frames(9), picture(3, HEIGHT, WIDTH)
    with opened(pipe, num_frames=9, controls={"structure": [], "preserve": "pixel", "seam": 0}) as session:
        session.feed(fed, MASK)
        session.keyframe(keyframe, frame=6)
        made = next(session).frames[0].numpy()
    assert np.array_equal(made[6], keyframe)
    others = [t for t in range(9) if t != 6]
    assert np.array_equal(made[others][:, MASK == 0], fed[others][:, MASK == 0])


@pytest.mark.parametrize("preserve", ["latent", "pixel"])
def test_a_control_of_scale_0_keeps_nothing(pipe, preserve):
    controls = {"structure": [], "preserve": preserve, "scale": {"control": 0.0}}
    made = run(opened(pipe, controls=controls), frames(9), MASK)
    assert same([made[0].latents], stream(pipe, 1, control=False))
    with opened(pipe, num_frames=9) as session:
        assert torch.equal(next(session).frames, made[0].frames)


def test_pixels_without_a_picture_cannot_be_kept(pipe):
    outpaint = {"left": 0.25, "inner": True, "vace_edge": True}
    with pytest.raises(
        SettingsError, match=r"outpaint\.vace_edge keeps pixels without a picture, so preserve=pixel cannot"
    ):
        opened(pipe, controls={"structure": [], "outpaint": outpaint, "preserve": "pixel"})


def test_the_source_is_placed_and_the_size_stays(pipe):
    controls = {"structure": [], "outpaint": {"left": 0.25, "right": 0.25}, "preserve": "pixel", "seam": 0}
    with opened(pipe, num_frames=9, controls=controls) as session:
        assert session.source_size == (HEIGHT, 32)
        fed = frames(9, width=32)
        session.feed(fed)
        (chunk,) = session
    assert chunk.frames.shape == (1, 9, HEIGHT, WIDTH, 3)
    assert np.array_equal(chunk.frames[0, :, :, 8:40].numpy(), fed)
    with (
        opened(pipe, controls=controls) as session,
        pytest.raises(
            InputError, match=r"control is 32x48 \(height x width\), its source \(controls\.outpaint\) is 32x32"
        ),
    ):
        session.feed(frames(9))
