"""What is special to LongLive: its configuration, its files, and a live official model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from checkpoints import base_names, half, original, original_vae, save_text_encoder, vace_names
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from support import distance, frames, picture, same, stream

from vace_adapt import load_pipeline
from vace_adapt.embedded.tiny import TINY, seeded, tiny_context_path, tiny_vae
from vace_adapt.errors import CheckpointError
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_longlive.settings import LongLiveSettings

SETTINGS = LongLiveSettings(name="longlive")


# --- configuration -----------------------------------------------------------------------------------------------


def test_yaml_says_what_the_settings_default_to():
    import vace_adapt_longlive

    file = Path(vace_adapt_longlive.__file__).parent / "conf" / "pipeline" / "longlive.yaml"
    assert LongLiveSettings.model_validate(yaml.safe_load(file.read_text())) == SETTINGS


def test_official_numbers():
    """NVlabs/LongLive v1.0 configs/longlive_inference.yaml."""
    assert SETTINGS.denoising_steps == (1000, 750, 500, 250)
    assert (SETTINGS.window, SETTINGS.sink, SETTINGS.chunk_latents) == (12, 3, 3)
    assert (SETTINGS.timestep_shift, SETTINGS.context_noise, SETTINGS.global_sink) == (5.0, 0, True)
    assert (SETTINGS.lora.rank, SETTINGS.lora.alpha) == (256, 256)


@pytest.mark.parametrize(
    "settings",
    [
        {"rope": "relative"},
        {"window": 9, "sink": 0},
        {"window": -1, "max_latents": 30},
        {"chunk_latents": 1, "window": 6, "sink": 2},
        {"denoising_steps": [1000, 500], "global_sink": False},
    ],
)
def test_other_numbers_run_controlled_and_with_a_switch(settings):
    pipe = load_pipeline("longlive", seed=0, settings=settings, device="cpu")
    with pipe.stream("a", height=32, width=48, references=[picture()]) as session:
        for index in range(5):
            session.feed(frames(session.shapes.time.pixels(index)))
            if index == 3:
                session.update(prompt="b")
            assert torch.isfinite(next(session).latents).all()


def test_relative_positions_agree_until_the_window_slides():
    absolute, relative = (
        load_pipeline("longlive", seed=0, settings={"rope": rope}, device="cpu") for rope in ("absolute", "relative")
    )
    a, r = stream(absolute, 6), stream(relative, 6)
    assert distance(a[:4], r[:4]) < 1e-4
    assert distance(a[4:], r[4:]) > 1e-3


# --- the official files -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tiny weights in every official file layout: what a user of the real model points at."""
    folder = tmp_path_factory.mktemp("files")
    base, context = seeded(lambda: CausalWan.of(TINY), 0, "base"), tiny_context_path(0)
    state = {f"model.{name}": t for name, t in original(base.state_dict(), base_names(TINY.layers)).items()}
    averaged = {name.replace("model.", "model._fsdp_wrapped_module."): t + 0.01 for name, t in state.items()}
    torch.save({"generator": state, "generator_ema": averaged}, folder / "longlive_base.pt")
    save_text_encoder(folder / "text")
    tiny_vae(0).save_pretrained(folder / "vae")
    save_file(original(context.state_dict(), vace_names(2)), folder / "vace.safetensors")
    return {
        "base": str(folder / "longlive_base.pt"),
        "vae": str(folder / "vae"),
        "text_encoder": str(folder / "text"),
        "control": str(folder / "vace.safetensors"),
    }


def from_files(files, **options):
    return load_pipeline("longlive", weights=files, settings={"backbone": TINY.model_dump()}, device="cpu", **options)


def test_official_files_give_the_embedded_pipeline(files, pipe):
    assert same(stream(from_files(files), 4, references=[picture()]), stream(pipe, 4, references=[picture()]))


def test_averaged_weights_are_a_setting(files, pipe):
    averaged = load_pipeline(
        "longlive", weights=files, settings={"backbone": TINY.model_dump(), "use_ema": True}, device="cpu"
    )
    assert distance(stream(averaged, 1), stream(pipe, 1)) > 1e-3


@pytest.mark.parametrize("mode", ["merged", "live"])
def test_lora_file(files, mode, tmp_path, pipe):
    lora = {}
    for name in base_names(TINY.layers):
        if name.startswith("blocks.") and name.endswith((".q.weight", ".ffn.0.weight")):
            wide = TINY.ffn_dim if ".ffn.0." in name else TINY.dim
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            lora[f"{stem}.lora_A.weight"] = torch.full((2, TINY.dim), 0.02)
            lora[f"{stem}.lora_B.weight"] = torch.full((wide, 2), 0.02)
    torch.save({"generator_lora": lora}, tmp_path / "lora.pt")
    settings = {"backbone": TINY.model_dump(), "lora": {"rank": 2, "alpha": 2}}
    weights = {**files, "lora": str(tmp_path / "lora.pt"), "lora_mode": mode}
    adapted = load_pipeline("longlive", weights=weights, settings=settings, device="cpu")
    assert distance(stream(adapted, 2), stream(pipe, 2)) > 1e-3
    with pytest.raises(CheckpointError, match="is a LoRA of rank 2, the settings say 256"):
        load_pipeline("longlive", weights=weights, settings={"backbone": TINY.model_dump()}, device="cpu")


def test_without_control_weights_it_is_the_base(files, pipe):
    bare = from_files({**files, "control": None})
    assert bare.context is None
    assert same(stream(bare, 2, control=False), stream(pipe, 2, control=False))


@pytest.mark.parametrize("part", ["base", "vae", "text_encoder"])
def test_missing_files_are_named(files, part):
    with pytest.raises(
        CheckpointError, match=f"weights.{part} is not given: pipeline 'longlive' needs base, vae and text_encoder"
    ):
        from_files({**files, part: None})


def test_bfloat16_files_run_in_bfloat16(files, tmp_path):
    vae = seeded(lambda: AutoencoderKLWan(base_dim=4), 0, "vae")
    torch.save(original_vae(half(vae.state_dict())), tmp_path / "Wan2.1_VAE.pth")
    found = from_files({**files, "vae": str(tmp_path / "Wan2.1_VAE.pth")}, dtype="bfloat16")
    (latents,) = stream(found, 1, references=[picture()])
    assert latents.dtype == torch.bfloat16
    assert found.parts.model.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert found.parts.model.blocks[0].scale_shift_table.dtype == torch.float32
