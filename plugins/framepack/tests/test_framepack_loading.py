"""Wan backend from files and around a live object."""

from __future__ import annotations

import pytest
import torch
from checkpoints import base_names, original, save_text_encoder
from safetensors.torch import save_file

from vace_adapt import load_pipeline
from vace_adapt.embedded.tiny import TINY, TINY_CONTROL_LAYERS, tiny_context_path, tiny_vae
from vace_adapt.errors import CheckpointError, SettingsError
from vace_adapt_framepack.settings import FramePackSettings
from vace_adapt_framepack.wan.loading import PACKING, pooled_packing
from vace_adapt_framepack.wan.model import helios_of
from vace_adapt_framepack.wan.tiny import tiny_parts

SIZES = {"backbone": TINY.model_dump(), "steps": 1, "guidance": 1.0}


@pytest.fixture(scope="module")
def model():
    return tiny_parts(FramePackSettings(name="framepack"), 0).model


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """A pipeline folder as the released ones are, with VACE weights beside it."""
    folder = tmp_path_factory.mktemp("helios")
    model.save_pretrained(folder / "transformer")
    tiny_vae(0).save_pretrained(folder / "vae")
    save_text_encoder(folder)
    context = folder / "vace"
    context.mkdir()
    save_file(tiny_context_path(0).state_dict(), context / "model.safetensors")
    (context / "config.json").write_text(f'{{"vace_layers": {list(TINY_CONTROL_LAYERS)}}}')
    return folder


def weights(folder, **changed):
    files = {"base": str(folder), "vae": str(folder), "text_encoder": str(folder), "control": str(folder / "vace")}
    return {**files, **changed}


def load(folder, settings=SIZES, *, model=None, layout=None, **changed):
    return load_pipeline(
        "framepack",
        weights=weights(folder, **changed),
        settings=settings,
        model=model,
        layout=layout,
        device="cpu",
        dtype="float32",
    )


def section(pipe):
    with pipe.stream("a red ball", height=32, width=32, seed=0) as session:
        return next(session).latents


def test_a_helios_folder_is_the_model_it_was_saved_from(folder, model):
    pipe = load(folder)
    assert pipe.parts.steps == 1
    assert pipe.context.layers == TINY_CONTROL_LAYERS
    for name, tensor in model.state_dict().items():
        assert torch.equal(pipe.parts.model.state_dict()[name], tensor)
    made = section(pipe)
    live = section(load(folder, base=None, model=model, layout="helios"))
    assert float((made - live).abs().max()) < 1e-5, "but for where the weights lie in memory"
    assert torch.isfinite(made).all()


def test_a_plain_wan_file_with_pooled_packing(folder, model, tmp_path):
    state = {name: t for name, t in model.state_dict().items() if not name.startswith(tuple(PACKING))}
    state["scale_shift_table"] = state.pop("norm_out.scale_shift_table")
    save_file(original(state, base_names(TINY.layers)), tmp_path / "wan.safetensors")
    plain = str(tmp_path / "wan.safetensors")
    with pytest.raises(CheckpointError, match=r"has no packing convolutions .* packing=pooled makes them"):
        load(folder, base=plain)
    came = load(folder, {**SIZES, "packing": "pooled"}, base=plain).parts.model
    expected = helios_of(TINY)
    made = pooled_packing(model.patch_embedding.weight, model.patch_embedding.bias)
    expected.load_state_dict({**model.state_dict(), **made})
    assert all(torch.equal(came.state_dict()[name], tensor) for name, tensor in expected.state_dict().items())
    assert torch.isfinite(section(load(folder, {**SIZES, "packing": "pooled"}, base=plain))).all()


def test_pyramid_stages_are_refused(folder, tmp_path):
    """Helios-Mid and -Distilled have the same tensors; their folder names the other pipeline."""
    (tmp_path / "transformer").symlink_to(folder / "transformer")
    index = tmp_path / "model_index.json"
    index.write_text('{"_class_name": "HeliosPipeline"}')
    assert load(folder, base=str(tmp_path)).parts.layout == "helios"
    index.write_text('{"_class_name": "HeliosPyramidPipeline"}')
    for base in (tmp_path, tmp_path / "transformer"):
        with pytest.raises(CheckpointError, match=r"is a Helios of pyramid stages \(Mid or Distilled\)"):
            load(folder, base=str(base))
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="model_index.json is damaged"):
        load(folder, base=str(tmp_path))


def test_trained_packing_is_not_made_anew(folder):
    with pytest.raises(CheckpointError, match="has packing convolutions of its own: leave packing=trained"):
        load(folder, {**SIZES, "packing": "pooled"})


def test_another_width_is_refused(folder):
    with pytest.raises(CheckpointError, match="is a model of width 48, this pipeline has width 5120"):
        load(folder, {})


def test_what_is_not_given_is_named(folder):
    with pytest.raises(
        CheckpointError, match="weights.vae is not given: FramePack on Wan needs base, vae and text_encoder"
    ):
        load(folder, vae=None)
    with pytest.raises(CheckpointError, match="Helios' LoRA is part of its released weights"):
        load(folder, lora="x.pt")


def test_another_live_model_is_refused(folder):
    with pytest.raises(
        CheckpointError, match="a Linear, does not have layout 'helios': it is no HeliosTransformer3DModel"
    ):
        load(folder, base=None, model=torch.nn.Linear(1, 1), layout="helios")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"history": [15, 2, 1]}, "4x needs a multiple of 4 latent frames"),
        ({"start_image": "a.png"}, "of backend hunyuan: give VACE keyframes instead"),
        ({"backend": "hunyuan", "end_image": "a.png"}, "need sampling inverted"),
        (
            {"backend": "hunyuan", "sampling": "inverted", "keyframes": {4: "a.png"}},
            "there is no section 4, a video has 4",
        ),
    ],
)
def test_settings_that_cannot_work(settings, text):
    with pytest.raises(SettingsError, match=text):
        load_pipeline("framepack", settings=settings)
