"""What is special to LongLive: its configuration, its files, and a live official model."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import yaml
from checkpoints import base_names, half, original, original_vae, vace_names
from diffusers import AutoencoderKLWan
from official_shape import OfficialShaped, count_hooks, equal_states, state_of
from safetensors.torch import save_file
from support import distance, frames, picture, same, stream

from vace_adapt import WeightsSettings, load_pipeline
from vace_adapt.contract import PipelineParts
from vace_adapt.embedded.tiny import TINY, seeded, tiny_context_path, tiny_text_encoder, tiny_vae
from vace_adapt.errors import CheckpointError
from vace_adapt.loading import load_plugin
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.streaming.pipeline import Pipeline
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
    pipe = load_pipeline("longlive", settings=settings, device="cpu")
    with pipe.stream("a", height=32, width=48, references=[picture()]) as session:
        for index in range(5):
            session.feed(frames(session.shapes.time.pixels(index)))
            if index == 3:
                session.update(prompt="b")
            assert torch.isfinite(next(session).latents).all()


def test_relative_positions_agree_until_the_window_slides():
    absolute, relative = (
        load_pipeline("longlive", settings={"rope": rope}, device="cpu") for rope in ("absolute", "relative")
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
    text = tiny_text_encoder(0)
    text.model.save_pretrained(folder / "text" / "text_encoder")
    text.tokenizer.save_pretrained(folder / "text" / "tokenizer")
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
        CheckpointError, match=f"weights.{part} is not given: LongLive needs base, vae and text_encoder"
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


# --- a live official model ----------------------------------------------------------------------------------------


def live_pipeline(model, layout, settings=SETTINGS) -> Pipeline:
    parts = PipelineParts(
        model=model,
        layout=layout,
        settings=settings,
        device=torch.device("cpu"),
        dtype=torch.float32,
        backbone=TINY,
        vae=tiny_vae(0),
        text_encoder=tiny_text_encoder(0),
        draws=len(settings.denoising_steps),
    )
    return Pipeline(load_plugin("longlive"), parts, tiny_context_path(0))


def switched(pipe: Pipeline, chunks: int = 7) -> list[torch.Tensor]:
    """A controlled stream with a reference, past the window, with a prompt switch."""
    made = []
    with pipe.stream("a red ball", height=32, width=48, references=[picture()]) as session:
        session.feed(frames(9 + 12 * (chunks - 1)), last=True)
        for index in range(chunks):
            if index == 5:
                session.update(prompt="a blue cube")
            made.append(next(session).latents.clone())
    return made


@pytest.mark.parametrize("global_sink", [True, False])
def test_live_model_equals_native_model(global_sink):
    settings = LongLiveSettings(name="longlive", window=9, global_sink=global_sink)
    native = seeded(lambda: CausalWan.of(TINY), 0, "base")
    official = live_pipeline(OfficialShaped(native, settings.sink), "official", settings)
    expected = switched(live_pipeline(copy.deepcopy(native), "native", settings))
    assert distance(switched(official), expected) < 1e-4
    official.detach()


def test_a_live_model_comes_back_as_it_was():
    model = OfficialShaped(seeded(lambda: CausalWan.of(TINY), 0, "base"), 3)
    before, sizes = state_of(model), [block.self_attn.max_attention_size for block in model.blocks]
    pipe = live_pipeline(model, "official")
    controlled = switched(pipe, 2)
    pipe.detach()
    pipe.detach()
    assert count_hooks(model) == 0
    assert equal_states(state_of(model), before)
    assert [block.self_attn.max_attention_size for block in model.blocks] == sizes
    bare = stream(pipe, 2, control=False)
    assert distance(bare, controlled) > 1e-3
    assert same(bare, stream(live_pipeline(model, "official"), 2, control=False))


def test_a_live_models_memory_can_be_taken_and_put_back():
    pipe = live_pipeline(OfficialShaped(seeded(lambda: CausalWan.of(TINY), 0, "base"), 3), "official")
    with pipe.stream("a", height=32, width=48, num_frames=9 + 12 * 6) as session:
        for _ in range(5):
            next(session)
        assert session.cache.positions() == (0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14)
        kept = session.cache.snapshot()
        held = {name: tensor.clone() for name, tensor in session.cache.tensors().items()}
        next(session)
        assert not torch.equal(session.cache.tensors()["k.1"], held["k.1"])
        session.cache.restore(kept)
        assert all(torch.equal(tensor, held[name]) for name, tensor in session.cache.tensors().items())
        session.cache.reset()
        assert not any(tensor.any() for tensor in session.cache.tensors().values())
    pipe.detach()


def test_a_live_model_with_lora_on_it(tmp_path):
    """peft first, then attach: hints are those of the adapted model, and the LoRA stays on the base."""
    import peft

    native = seeded(lambda: CausalWan.of(TINY), 0, "base")
    plain = live_pipeline(OfficialShaped(native, 3), "official")
    expected = switched(plain, 2)
    plain.detach()
    config = peft.LoraConfig(r=2, target_modules=r"native\.blocks\.\d+\.attn1\.to_q", init_lora_weights=False)
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(OfficialShaped(native, 3), config)
    pipe = live_pipeline(wrapped, "official")
    assert distance(switched(pipe, 2), expected) > 1e-3
    pipe.detach()
    assert count_hooks(wrapped) == 0


def test_a_live_model_brings_its_own_weights(files):
    model = OfficialShaped(seeded(lambda: CausalWan.of(TINY), 0, "base"), 3)
    without_base = {name: path for name, path in files.items() if name != "base"}
    pipe = load_pipeline(
        "longlive", model=model, layout="official", weights=without_base, device="cpu",
        settings={"backbone": TINY.model_dump()},
    )  # fmt: skip
    assert pipe.attachment is not None
    pipe.detach()
    with pytest.raises(CheckpointError, match="a live model brings its own weights: give neither weights.base nor"):
        load_pipeline("longlive", model=model, layout="official", weights=WeightsSettings(**files), device="cpu")
