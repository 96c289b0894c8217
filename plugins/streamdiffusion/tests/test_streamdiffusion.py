"""What is special to StreamDiffusionV2: its configuration, its files, and how it starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from checkpoints import base_names, original, save_text_encoder, vace_names
from safetensors.torch import save_file
from support import distance, frames, opened, picture, same

from vace_adapt import load_pipeline
from vace_adapt.embedded.tiny import TINY, seeded, tiny_context_path, tiny_vae
from vace_adapt.errors import CheckpointError, InputError, SessionError, SettingsError, Unsupported
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_streamdiffusion.settings import WAN_14B, StreamDiffusionSettings, ring_ends

SETTINGS = StreamDiffusionSettings(name="streamdiffusion")
CHUNKS = 9
FED = frames(5 + 4 * (CHUNKS - 1))


def tiny(**settings):
    return load_pipeline("streamdiffusion", seed=0, settings=settings, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def sd():
    return tiny()


def made(pipe, fed=FED, mask=None, **options):
    """Latents of a stream that is fed at once."""
    with opened(pipe, **options) as session:
        if session.batch > 1:
            fed = np.stack([fed] * session.batch) if fed.ndim == 4 else fed
        session.feed(fed, mask, last=True)
        return [chunk.latents.clone() for chunk in session]


# --- configuration ----------------------------------------------------------------------------------------------------


def test_yaml_says_what_the_settings_default_to():
    import vace_adapt_streamdiffusion

    file = Path(vace_adapt_streamdiffusion.__file__).parent / "conf" / "pipeline" / "streamdiffusion.yaml"
    assert StreamDiffusionSettings.model_validate(yaml.safe_load(file.read_text())) == SETTINGS


def test_official_numbers():
    """configs/wan_causal_dmd_v2v.yaml, run_v2v.sh, streamv2v/inference.py."""
    assert SETTINGS.denoising_steps == (700, 500)
    assert (SETTINGS.slots, SETTINGS.sink, SETTINGS.sink_threshold, SETTINGS.chunk_latents) == (6, 3, 0.2, 1)
    assert (SETTINGS.timestep_shift, SETTINGS.warp_denoising_steps, SETTINGS.position_limit) == (8.0, False, 50)
    assert (SETTINGS.noise_scale, SETTINGS.motion_scale, SETTINGS.motion_full) == (0.8, 0.1, 0.2)
    assert (SETTINGS.noise_inertia, SETTINGS.step_offset) == (0.1, 100)
    assert (WAN_14B.dim, WAN_14B.layers, WAN_14B.heads) == (5120, 40, 40)


@pytest.mark.parametrize(
    ("slots", "sink", "chunk", "ends"),
    [(6, 3, 1, (4, 5, 6)), (5, 2, 1, (4, 5)), (8, 5, 1, (6, 7, 8)), (10, 0, 3, (8, 10)), (10, 8, 3, (10,))],
)
def test_which_slots_are_given_up(slots, sink, chunk, ends):
    numbers = {"slots": slots, "sink": sink, "chunk_latents": chunk}
    assert ring_ends(StreamDiffusionSettings(name="streamdiffusion", **numbers)) == ends


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slots": 9, "chunk_latents": 3}, "slots 9 must be the first chunk's 4 latent frames and whole chunks of 3"),
        ({"slots": 6, "sink": 6}, "slots 6 with a sink of 6 leave no latent frames that make room for new ones"),
        ({"slots": 3}, "slots 3 with a sink of 3 leave no latent frames"),
        ({"position_limit": 6}, "position_limit 6 must be over slots 6"),
        ({"denoising_steps": [500, 700]}, "denoising_steps must decrease within (0, 1000], not [500.0, 700.0]"),
        ({"denoising_steps": [700, 0]}, "denoising_steps must decrease within (0, 1000], not [700.0, 0.0]"),
        ({"warp_denoising_steps": True, "denoising_steps": [700.5]}, "to be warped must be whole, not [700.5]"),
        ({"noise_scale": 0.25, "motion_scale": 0.2}, "noise_scale 0.25 minus motion_scale 0.2 and step_offset 100"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(SettingsError) as refused:
        tiny(**settings)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"stream_batch": False},
        {"official_quirks": True, "denoising_steps": [700, 500, 400, 200]},
        {"slots": 5, "sink": 2, "sink_threshold": -1},
        {"denoising_steps": [700]},
        {"chunk_latents": 2, "slots": 7},
        {"sink": 4, "slots": 7, "warp_denoising_steps": True},
        {"position_limit": None},
        {"position_limit": 8, "position_refresh": "official"},
    ],
)
def test_other_numbers_run_controlled_and_with_a_switch(settings):
    pipe = tiny(**settings)
    with opened(pipe, references=[picture()], controls={"structure": "gray"}) as session:
        for index in range(12):
            session.feed(frames(session.shapes.time.pixels(index)))
            if index == 3:
                session.update(prompt="b")
            chunk = next(session)
            assert torch.isfinite(chunk.latents).all()
            assert chunk.report.controlled


@pytest.mark.parametrize(
    ("controls", "capability"),
    [
        ({"kv_policy": "with_hints"}, "clean_pass is unsupported"),
    ],
)
def test_what_it_cannot_do_is_said(sd, controls, capability):
    with pytest.raises(Unsupported, match=capability):
        opened(sd, controls=controls)


# --- the start --------------------------------------------------------------------------------------------------------


def test_it_starts_from_the_video_and_from_noise_where_that_is_a_ready_made_control(sd):
    other = FED.copy()
    other[:, :16] = 255 - other[:, :16]
    silent = {"scale": {"control": 0.0}}
    alone, turned = (made(sd, fed, controls={"structure": []}) for fed in (FED, other))
    assert distance(alone[:1], turned[:1]) > 1e-2
    plain = [made(sd, fed, controls={"structure": ["plain"], **silent}) for fed in (FED, other)]
    assert same(*plain)
    assert same(plain[0], made(tiny(start="noise"), controls={"structure": ["gray"], **silent}))
    with opened(sd, num_frames=len(FED)) as session:
        assert distance(plain[0], [chunk.latents for chunk in session]) < 1e-4, "nothing was fed"


def test_control_and_start_act_together(sd):
    alone = made(sd, controls={"structure": []})
    controlled = made(sd, controls={"structure": ["gray"]})
    assert distance(alone, controlled) > 1e-2
    assert same(alone, made(sd, controls={"structure": ["gray"], "scale": {"control": 0.0}}))
    with_reference = made(sd, controls={"structure": ["gray"]}, references=[picture()])
    assert distance(controlled, with_reference) > 1e-3


def test_the_start_is_the_video_as_the_vae_encodes_it_not_normalised(monkeypatch, sd):
    from vace_adapt_streamdiffusion import start

    seen = []
    real = start.mixed
    monkeypatch.setattr(start, "mixed", lambda noise, video, scales: seen.append(video) or real(noise, video, scales))
    made(sd, controls={"structure": ["gray"]})
    pixels = torch.from_numpy(FED).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    whole = sd.parts.vae.encode(pixels).latent_dist.mode()
    assert torch.allclose(torch.cat(seen, dim=2), whole, atol=1e-5)
    assert not torch.allclose(torch.cat(seen, dim=2), sd.codec.normalise(whole), atol=1e-1)


def test_motion_lowers_the_noise(monkeypatch, sd):
    from vace_adapt_streamdiffusion import start

    seen = []
    real = start.next_scale
    monkeypatch.setattr(start, "next_scale", lambda *given: seen.append((given[2], real(*given))) or seen[-1][1])
    still = np.broadcast_to(FED[:1], FED.shape).copy()
    moving = still.copy()
    moving[9:] = np.clip(moving[9:].astype(int) + 13, 0, 255)
    made(sd, moving, controls={"structure": []})
    expected = np.sqrt(np.mean(((moving[9].astype(float) - moving[8]) / 127.5) ** 2))
    motions = [motion for motion, _ in seen]
    assert motions[1] == pytest.approx(expected, rel=1e-4), "the chunk before counts"
    assert motions[0] == motions[2] == 0
    scales = [scale for _, scale in seen]
    assert scales[0] == pytest.approx(0.8)
    assert scales[1] < scales[2] < 0.8


def test_kept_latents_are_the_sources(sd):
    mask = np.full(FED.shape[:3], 255, np.uint8)
    mask[:, :, :16] = 0
    latents = made(sd, mask=mask, controls={"structure": [], "preserve": "latent"})
    pixels = torch.from_numpy(FED).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    source = sd.codec.normalise(sd.parts.vae.encode(pixels).latent_dist.mode())
    kept = torch.cat(latents, dim=2)
    assert torch.allclose(kept[..., :2], source[..., :2], atol=1e-5)
    assert not torch.allclose(kept[..., 2:], source[..., 2:], atol=1e-1)


def test_without_control_weights_it_only_starts_from_the_video(sd):
    bare = tiny()
    bare.detach()
    assert same(made(bare, controls={"structure": []}), made(sd, controls={"structure": []}))
    with opened(bare) as session, pytest.raises(SessionError, match="can only start from the frames"):
        session.feed(FED)
    with opened(bare, controls={"structure": []}) as session, pytest.raises(SessionError, match="takes no keyframes"):
        session.keyframe(FED[:1], frame=3)


def test_longlive_does_not_start_from_a_video(pipe):
    with opened(pipe, controls={"structure": []}) as session, pytest.raises(InputError, match="would not be used"):
        session.feed(FED)


# --- the official files -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tiny weights in every official file layout: what a user of the real model points at."""
    folder = tmp_path_factory.mktemp("files")
    base, context = seeded(lambda: CausalWan.of(TINY), 0, "base"), tiny_context_path(0)
    state = {f"model.{name}": t for name, t in original(base.state_dict(), base_names(TINY.layers)).items()}
    torch.save({"generator": state, "generator_ema": {n: t + 0.01 for n, t in state.items()}}, folder / "model.pt")
    save_text_encoder(folder / "text")
    tiny_vae(0).save_pretrained(folder / "vae")
    save_file(original(context.state_dict(), vace_names(2)), folder / "vace.safetensors")
    return {
        "base": str(folder / "model.pt"),
        "vae": str(folder / "vae"),
        "text_encoder": str(folder / "text"),
        "control": str(folder / "vace.safetensors"),
    }


def from_files(files, **settings):
    settings = {"backbone": TINY.model_dump(), **settings}
    return load_pipeline("streamdiffusion", weights=files, settings=settings, device="cpu")


GRAY = {"controls": {"structure": ["gray"]}}


def test_official_files_give_the_tiny_pipeline(files, sd):
    assert same(made(from_files(files), references=[picture()], **GRAY), made(sd, references=[picture()], **GRAY))


def test_averaged_weights_are_a_setting(files, sd):
    assert distance(made(from_files(files, use_ema=True), **GRAY), made(sd, **GRAY)) > 1e-3


@pytest.mark.parametrize("top", ["state_dict", None])
@pytest.mark.parametrize("prefix", ["model.", ""])
def test_every_layout_of_the_base_file(files, sd, top, prefix, tmp_path):
    state = torch.load(files["base"])["generator"]
    state = {name.replace("model.", prefix, 1): tensor for name, tensor in state.items()}
    torch.save(state if top is None else {top: state}, tmp_path / "model.pt")
    assert same(made(from_files({**files, "base": str(tmp_path / "model.pt")}), **GRAY), made(sd, **GRAY))


def test_a_base_file_that_does_not_fit_exactly_is_refused(files, tmp_path):
    """The official code would go on without what is missing."""
    state = torch.load(files["base"])["generator"]
    name = "model.blocks.1.self_attn.q.weight"
    for changed, message in (
        ({n: t for n, t in state.items() if n != name}, "attn1.to_q.weight"),
        ({**state, "model.blocks.0.extra.weight": state[name]}, "extra"),
        ({**state, name: state[name][:, :8]}, r"blocks.1.self_attn.q.weight is \[48, 8\], expected \[48, 48\]"),
    ):
        torch.save({"generator": changed}, tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match=message):
            from_files({**files, "base": str(tmp_path / "model.pt")})
    with pytest.raises(CheckpointError, match="is a model of width 48, this pipeline has width 5120"):
        load_pipeline("streamdiffusion", weights=files, settings={"backbone": WAN_14B.model_dump()}, device="cpu")


@pytest.mark.parametrize("part", ["base", "vae", "text_encoder"])
def test_missing_files_are_named(files, part):
    with pytest.raises(
        CheckpointError, match=f"weights.{part} is not given: pipeline 'streamdiffusion' needs base, vae"
    ):
        from_files({**files, part: None})


def test_a_lora_is_refused(files):
    with pytest.raises(CheckpointError, match="weights.lora is given: pipeline 'streamdiffusion' takes none"):
        from_files({**files, "lora": files["base"]})


def test_a_live_native_model(files, sd):
    def live(model, **settings):
        parts = {name: file for name, file in files.items() if name != "base"}
        settings = {"backbone": TINY.model_dump(), **settings}
        return load_pipeline(
            "streamdiffusion", weights=parts, settings=settings, model=model, layout="native", device="cpu"
        )

    model = seeded(lambda: CausalWan.of(TINY), 0, "base")
    assert same(made(live(model), **GRAY), made(sd, **GRAY))
    with pytest.raises(CheckpointError, match="the live model's width is 48, the settings say 5120"):
        live(model, backbone=WAN_14B.model_dump())
    with pytest.raises(CheckpointError, match="the live model, a Linear, does not have layout 'native'"):
        live(torch.nn.Linear(2, 2))
