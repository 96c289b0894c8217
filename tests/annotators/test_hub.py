from __future__ import annotations

import gc
import json
import shutil
import socket
import weakref

import huggingface_hub.constants as hub_constants
import pytest
import torch
from annotators.tiny_models import save_depth_anything, save_sam2
from safetensors.torch import load_file, save_file
from transformers import AutoModelForDepthEstimation, DPTImageProcessorPil

from vace_adapt.annotators.hub import load_model, load_part, weights_folder
from vace_adapt.errors import CheckpointError

HUB_ID = "depth-anything/Depth-Anything-V2-Small-hf"
LAYER = "backbone.embeddings.patch_embeddings.projection.weight"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return save_depth_anything(tmp_path_factory.mktemp("good"))


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copytree(good, tmp_path / "copy")


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """An empty hub cache, the hub not told that it is offline, and every try to reach the network."""
    tried = []

    def refuse(*arguments, **keywords):
        tried.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


def load(folder, types=("depth_anything",), dtype="float32"):
    return load_model("depth", folder, AutoModelForDepthEstimation, types, "cpu", dtype)


def refused(function, *arguments, **keywords):
    with pytest.raises(CheckpointError) as caught:
        function(*arguments, **keywords)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_folder_is_used_as_it_is(good, calls):
    assert weights_folder("depth", str(good), download=False) == good
    assert weights_folder("depth", str(good), download=True) == good
    assert not calls


def test_a_hub_id_is_found_in_the_cache(good, calls, tmp_path):
    cached = tmp_path / "cache" / "models--org--name"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc")
    shutil.copytree(good, cached / "snapshots" / "abc")
    assert weights_folder("depth", "org/name", download=False) == cached / "snapshots" / "abc"
    assert not calls


def test_a_hub_id_that_is_not_there(calls):
    assert refused(weights_folder, "depth", HUB_ID, download=False) == (
        f"annotator 'depth': weights '{HUB_ID}' is neither a folder nor in the local Hugging Face cache: give a folder "
        "with controls.annotators.depth.weights=PATH, or allow fetching it with weights.download=true"
    )
    text = refused(weights_folder, "mask_grounding", HUB_ID, download=False, setting="sam2_weights")
    assert "controls.annotators.mask_grounding.sam2_weights=PATH" in text
    assert not calls


def test_only_download_asks_the_network(calls):
    text = refused(weights_folder, "depth", HUB_ID, download=True)
    assert text.startswith(f"annotator 'depth': weights '{HUB_ID}' cannot be fetched from the hub: ")
    assert calls


@pytest.mark.parametrize("source", ["./no/folder", "/no/folder", "a b/c", "a/b/c"])
def test_neither_a_folder_nor_a_hub_id(source):
    text = refused(weights_folder, "depth", source, download=False)
    assert text == f"annotator 'depth': weights {source!r}: no such folder, and not a hub id org/name"


def test_a_file_is_not_a_folder(good):
    text = refused(weights_folder, "depth", str(good / "model.safetensors"), download=False)
    assert text.endswith("is a file, expected a folder with config.json and model.safetensors")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loaded_model_is_ready(good, dtype):
    model = load(good, dtype=dtype)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    saved = load_file(good / "model.safetensors")
    assert torch.equal(model.get_parameter(LAYER), saved[LAYER].to(getattr(torch, dtype)))


def test_a_model_is_loaded_once_and_let_go(good):
    first, second = load(good), load(good)
    assert first is second
    assert load(good, dtype="bfloat16") is not first
    gone = weakref.ref(first)
    del first, second
    gc.collect()
    assert gone() is None


def test_loading_asks_nothing_of_the_network(good, calls):
    load(good)
    load_part("depth", good, DPTImageProcessorPil)
    assert not calls


def test_an_empty_folder(tmp_path):
    text = refused(load, tmp_path)
    assert text == f"annotator 'depth': {tmp_path} has no config.json, expected a model's folder as it is on the hub"


def test_another_model(tmp_path):
    text = refused(load, save_sam2(tmp_path), types=("depth_anything", "dpt"))
    assert text == (
        f"annotator 'depth': {tmp_path} holds a model of type 'sam2_video', expected 'depth_anything' or 'dpt'"
    )


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_config(copy, content):
    (copy / "config.json").write_text(content)
    assert refused(load, copy).startswith(f"annotator 'depth': {copy}: config.json is damaged: ")


def test_a_config_of_impossible_sizes(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "neck_hidden_sizes": "many"}))
    assert refused(load, copy).startswith(f"annotator 'depth': {copy} cannot be loaded: ")


def test_no_weights(copy):
    (copy / "model.safetensors").unlink()
    assert "no file named model.safetensors" in refused(load, copy)


def test_pickles_are_not_read(copy):
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert "no file named model.safetensors" in refused(load, copy)


def test_cut_off_weights(copy):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    assert "cannot be loaded: SafetensorError: " in refused(load, copy)


def test_a_missing_tensor_is_not_made_up(copy):
    tensors = load_file(copy / "model.safetensors")
    del tensors[LAYER]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert refused(load, copy) == f"annotator 'depth': {copy} lacks 1 tensors of its model, first {LAYER!r}"


def test_a_tensor_of_another_shape(copy):
    tensors = load_file(copy / "model.safetensors")
    tensors[LAYER] = tensors[LAYER][:1].clone()
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert refused(load, copy) == f"annotator 'depth': {copy}: {LAYER} is [1, 3, 14, 14], expected [16, 3, 14, 14]"


def test_no_processor(copy):
    (copy / "preprocessor_config.json").unlink()
    text = refused(load_part, "depth", copy, DPTImageProcessorPil)
    assert text.startswith(f"annotator 'depth': {copy} holds no DPTImageProcessorPil: ")
