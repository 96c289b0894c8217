"""Weights in 8 bits and in main memory: what diffusers' own functions do to them, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import HeliosTransformer3DModel, HunyuanVideoFramepackTransformer3DModel
from framepack_files import save_hunyuan, settings_of, weights_of
from safetensors.torch import save_file
from support import distance, frames
from torch import nn

from vace_adapt import load_pipeline
from vace_adapt.errors import SettingsError
from vace_adapt_framepack.hunyuan.context import HunyuanContext
from vace_adapt_framepack.hunyuan.tiny import tiny_model
from vace_adapt_framepack.memory import main_memory, save_memory
from vace_adapt_framepack.settings import FramePackSettings
from vace_adapt_framepack.wan.model import helios_of
from vace_adapt_framepack.wan.tiny import tiny_parts

CPU = torch.device("cpu")
FLOAT8 = FramePackSettings(name="framepack", storage="float8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hunyuan")
    save_hunyuan(folder)
    return folder


def load(folder, model=None, layout=None, **settings):
    weights = {**weights_of(folder), **({} if model is None else {"base": None})}
    return load_pipeline(
        "framepack",
        weights=weights,
        settings={**settings_of(folder), **settings},
        model=model,
        layout=layout,
        device="cpu",
        dtype="float32",
    )


def stream(pipe):
    with pipe.stream("a red ball", seed=0, num_frames=73, height=32, width=48) as session:
        session.feed(frames(73), last=True)
        return [chunk.latents.clone() for chunk in session]


def in_8_bits(model):
    return {name for name, parameter in model.named_parameters() if parameter.dtype == torch.float8_e4m3fn}


def rounded(model, names):
    """By hand: a model with these weights cast there and back."""
    made = copy.deepcopy(model)
    for name, parameter in made.named_parameters():
        if name in names:
            parameter.data = parameter.data.to(torch.float8_e4m3fn).to(parameter.dtype)
    return made


def test_a_stream_is_that_of_weights_cast_by_hand(folder):
    plain, stored = load(folder), load(folder, storage="float8")
    names = in_8_bits(stored.parts.model)
    assert "single_transformer_blocks.0.proj_mlp.weight" in names
    expected = stream(load(folder, model=rounded(plain.parts.model, names), layout="hunyuan"))
    made = stream(stored)
    assert distance(made, expected) < 1e-5, "but for where the weights lie in memory"
    assert distance(made, stream(plain)) > 1e-3, "8 bits are not the same"
    assert in_8_bits(stored.parts.model) == names, "and they lie in 8 bits again"


def test_helios_too():
    model = tiny_parts(FramePackSettings(name="framepack"), 0).model
    stored = copy.deepcopy(model)
    save_memory(stored, FLOAT8, CPU, torch.float32)
    names = in_8_bits(stored)
    assert {"blocks.0.attn1.to_q.weight", "blocks.0.ffn.net.2.weight"} <= names
    assert not [name for name in names if name.startswith("patch_")]
    torch.manual_seed(0)
    given = {
        "hidden_states": torch.randn(1, 16, 9, 4, 6),
        "timestep": torch.tensor([600.0]),
        "encoder_hidden_states": torch.randn(1, 7, model.config.text_dim),
    }
    with torch.no_grad():
        assert torch.equal(stored(**given).sample, rounded(model, names)(**given).sample)
        assert not torch.equal(stored(**given).sample, model(**given).sample)


@pytest.mark.parametrize(
    ("build", "least"), [(HunyuanVideoFramepackTransformer3DModel, 0.7), (HeliosTransformer3DModel, 0.9)]
)
def test_released_sizes_take_half_the_memory(build, least):
    """But for what diffusers keeps: embeddings and norms, in HunyuanVideo with the projections that modulate."""
    packed = {"has_image_proj": True, "image_proj_dim": 1152, "has_clean_x_embedder": True}
    with torch.device("meta"):
        model = build(**packed) if build is HunyuanVideoFramepackTransformer3DModel else build()
    model = model.to(torch.bfloat16)
    before = sum(parameter.nbytes for parameter in model.parameters())
    save_memory(model, FLOAT8, CPU, torch.bfloat16)
    names = in_8_bits(model)
    stored = sum(parameter.nbytes for name, parameter in model.named_parameters() if name in names)
    after = sum(parameter.nbytes for parameter in model.parameters())
    assert before - after == stored, "a byte less for every weight in 8 bits"
    assert 2 * stored > least * before


@pytest.mark.parametrize("build", [tiny_model, lambda: helios_of(FramePackSettings(name="framepack").sizes)])
@pytest.mark.parametrize(("offload", "level", "blocks"), [("block", "block_level", 1), ("leaf", "leaf_level", None)])
def test_offloading_is_asked_of_diffusers(monkeypatch, build, offload, level, blocks):
    """What it does needs an accelerator, which was not there to try it."""
    asked = {}
    with torch.device("meta"):
        model = build()
    monkeypatch.setattr(type(model), "enable_group_offload", lambda self, **options: asked.update(options))
    settings, device = FramePackSettings(name="framepack", offload=offload), torch.device("cuda", 0)
    save_memory(model, settings, device, torch.bfloat16)
    assert asked == {
        "onload_device": device,
        "offload_device": CPU,
        "offload_type": level,
        "num_blocks_per_group": blocks,
    }
    assert main_memory(settings, device) == CPU
    assert main_memory(FLOAT8, device) == device


@pytest.mark.parametrize("backend", ["wan", "hunyuan"])
def test_what_cannot_be_is_refused(backend):
    given = {"device": "cpu", "weights": {"base": "x"}}
    with pytest.raises(SettingsError, match="offload=leaf keeps weights in main memory .* the device is cpu"):
        load_pipeline("framepack", settings={"backend": backend, "offload": "leaf"}, **given)
    with pytest.raises(SettingsError, match="pipeline.storage is for weights that are loaded, not for random ones"):
        load_pipeline("framepack", settings={"backend": backend, "storage": "float8"}, device="cpu", seed=0)
    live = {"model": nn.Linear(1, 1), "layout": "helios" if backend == "wan" else "hunyuan"}
    with pytest.raises(SettingsError, match=r"pipeline.storage: a live model is left as it is; call its own enable_l"):
        load_pipeline("framepack", settings={"backend": backend, "storage": "float8"}, **live)
    with pytest.raises(SettingsError, match=r"pipeline.storage.* 'float8'"):
        load_pipeline("framepack", settings={"backend": backend, "storage": "int4"}, **given)


def test_context_blocks_are_copies_of_whole_weights(folder, tmp_path):
    save_file(HunyuanContext.beside(load(folder).parts.model, (0, 3)).state_dict(), tmp_path / "context.safetensors")
    weights = {**weights_of(folder), "control": str(tmp_path / "context.safetensors")}
    settings = {**settings_of(folder), "storage": "float8"}
    pipe = load_pipeline("framepack", weights=weights, settings=settings, device="cpu", dtype="float32")
    assert not in_8_bits(pipe.parts.context)
    assert distance(stream(pipe), stream(load(folder, storage="float8"))) < 1e-5
