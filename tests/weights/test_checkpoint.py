from __future__ import annotations

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from vace_adapt.errors import CheckpointError
from vace_adapt.weights import checkpoint as module
from vace_adapt.weights.checkpoint import open_checkpoint, strip_prefixes

STATE = {"blocks.0.weight": torch.arange(6.0).view(2, 3), "head.bias": torch.ones(3)}


def check(checkpoint):
    assert set(checkpoint) == set(STATE)
    assert len(checkpoint) == 2
    assert "head.bias" in checkpoint
    assert checkpoint.shape("blocks.0.weight") == (2, 3)
    assert all(torch.equal(checkpoint.tensor(name), tensor) for name, tensor in STATE.items())


def test_single_file_folder_and_shards(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    check(open_checkpoint(tmp_path / "model.safetensors"))
    check(open_checkpoint(tmp_path))
    shards = tmp_path / "sharded"
    shards.mkdir()
    for i, (name, tensor) in enumerate(STATE.items()):
        save_file({name: tensor}, shards / f"part-{i}.safetensors")
    index = {"weight_map": {name: f"part-{i}.safetensors" for i, name in enumerate(STATE)}}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    check(open_checkpoint(shards))
    check(open_checkpoint(shards / "model.safetensors.index.json"))


def test_config_beside_the_weights_and_a_pipelines_subfolder(tmp_path):
    part = tmp_path / "transformer"
    part.mkdir()
    save_file(STATE, part / "model.safetensors")
    (part / "config.json").write_text('{"num_layers": 4}')
    found = open_checkpoint(tmp_path, subfolder="transformer")
    check(found)
    assert found.config == {"num_layers": 4}


@pytest.mark.parametrize("top", [None, "generator", "generator_ema", "model", "state_dict"])
def test_pickles_under_any_top_key(tmp_path, top):
    path = tmp_path / "model.pt"
    torch.save({top: STATE} if top else STATE, path)
    check(open_checkpoint(path))


def test_averaged_weights_are_taken_only_when_asked(tmp_path):
    path = tmp_path / "model.pt"
    averaged = {name: tensor + 1 for name, tensor in STATE.items()}
    torch.save({"generator_ema": averaged, "generator": STATE}, path)
    check(open_checkpoint(path))
    found = open_checkpoint(path, top_key="generator_ema")
    assert torch.equal(found.tensor("head.bias"), averaged["head.bias"])
    with pytest.raises(CheckpointError, match="has no key 'critic', only generator_ema, generator"):
        open_checkpoint(path, top_key="critic")


@pytest.mark.parametrize(
    "prefix", ["model.", "module.", "model.diffusion_model.", "diffusion_model.", "model._fsdp_wrapped_module."]
)
def test_wrapper_prefixes_are_taken_off(tmp_path, prefix):
    assert strip_prefixes(f"{prefix}blocks.0.q.weight") == "blocks.0.q.weight"
    save_file({prefix + name: tensor for name, tensor in STATE.items()}, tmp_path / "m.safetensors")
    check(open_checkpoint(tmp_path / "m.safetensors"))


def test_fsdp_prefix_inside_a_name():
    name = "model._fsdp_wrapped_module.blocks.3._fsdp_wrapped_module.ffn.0.bias"
    assert strip_prefixes(name) == "blocks.3.ffn.0.bias"


def test_two_tensors_under_one_name(tmp_path):
    save_file({"model.a": torch.ones(1), "a": torch.ones(1)}, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="two tensors have one name"):
        open_checkpoint(tmp_path / "m.safetensors")


class Malicious:
    def __reduce__(self):
        return (os.system, ("touch hacked",))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"generator": {"a": Malicious()}}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="is refused: it holds more than tensors, and loading it could run code"):
        open_checkpoint(tmp_path / "model.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "plain.pt")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("m.safetensors", b"hello", "is not a safetensors file"),
        ("m.pt", b"hello", "is refused|is not a checkpoint"),
        ("m.mp4", b"hello", "is not a checkpoint: expected .safetensors, .index.json, .pt or .pth"),
        ("m.index.json", b"[]", "is not an index of shards"),
        (
            "m.index.json",
            b'{"weight_map": {"a": "gone.safetensors"}}',
            "names 1 missing shards, first 'gone.safetensors'",
        ),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, name, content, text):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=text):
        open_checkpoint(path)


def test_pickles_that_hold_something_else(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list, not a state dict"):
        open_checkpoint(tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "dict.pt")
    with pytest.raises(CheckpointError, match="holds no state dict: top keys are epoch"):
        open_checkpoint(tmp_path / "dict.pt")


def test_folders_without_weights_and_paths_that_are_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="has no .safetensors file"):
        open_checkpoint(tmp_path)
    for name in ("a", "b"):
        save_file(STATE, tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match="has 2 .safetensors files and no index"):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no file or folder '/nowhere.pt'"):
        open_checkpoint("/nowhere.pt")


def test_hub_ids_come_from_the_cache_unless_download_is_allowed(tmp_path, monkeypatch):
    text = "'org/model' is neither a path nor in the local hub cache; weights.download=true allows fetching it"
    with pytest.raises(CheckpointError, match=text):
        open_checkpoint("org/model")
    save_file(STATE, tmp_path / "m.safetensors")
    asked = []
    monkeypatch.setattr(module, "snapshot_download", lambda name, **o: asked.append((name, o)) or str(tmp_path))
    check(open_checkpoint("org/model", download=True))
    monkeypatch.setattr(
        module, "hf_hub_download", lambda *n, **o: asked.append((*n, o)) or str(tmp_path / "m.safetensors")
    )
    check(open_checkpoint("org/model/models/base.pt"))
    assert asked == [
        ("org/model", {"local_files_only": False}),
        ("org/model", "models/base.pt", {"local_files_only": True}),
    ]
