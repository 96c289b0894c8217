from __future__ import annotations

import json
import os
import pickle
import random
import re
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import save_file

from vace_adapt.errors import CheckpointError
from vace_adapt.weights import locate as module
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
        ("m.safetensors", b"", "is not a safetensors file"),
        ("m.pt", b"hello", "is damaged or not a checkpoint: KeyError"),
        ("m.pt", b"", "is damaged or not a checkpoint: EOFError"),
        ("m.pt", b"PK\x03\x04 and no more", "is damaged or not a checkpoint: RuntimeError: .*zip archive"),
        ("m.mp4", b"hello", "is not a checkpoint: expected .safetensors, .index.json, .pt or .pth"),
        ("m.index.json", b"[]", "is not an index of shards: it has no weight_map from tensors to files"),
        ("m.index.json", b"{", "is not an index of shards: JSONDecodeError: "),
        ("m.index.json", b'{"weight_map": null}', "it has no weight_map from tensors to files"),
        ("m.index.json", b'{"weight_map": {}}', "it has no weight_map from tensors to files"),
        ("m.index.json", b'{"weight_map": {"a": 5}}', "expected .safetensors files, not 5"),
        ("m.index.json", b'{"weight_map": {"a": "m.bin"}}', "expected .safetensors files, not 'm.bin'"),
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


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([1, 2], "holds a list, not a state dict"),
        ({"epoch": 3}, "holds no state dict: top keys are epoch"),
        ({"model": {}}, "holds no state dict: top keys are model"),
        ({1: torch.ones(1), 2: torch.ones(1)}, "is no state dict: a tensor is named 1, expected a string"),
        ({"generator": {1: torch.ones(1)}}, "a tensor is named 1, expected a string"),
        ({("a", "b"): torch.ones(1)}, r"a tensor is named \('a', 'b'\), expected a string"),
        ({b"a": torch.ones(1)}, "a tensor is named b'a', expected a string"),
        ({"a": torch.ones(1, device="meta")}, "a is a meta tensor"),
        ({"a": torch.ones(2).to_sparse()}, "a is a torch.sparse_coo tensor"),
    ],
)
def test_pickles_that_hold_something_else(tmp_path, content, text):
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=text):
        open_checkpoint(tmp_path / "m.pt")


def test_a_chosen_key_without_a_state_dict(tmp_path):
    torch.save({"generator_ema": torch.ones(1)}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="holds no state dict: top keys are generator_ema"):
        open_checkpoint(tmp_path / "m.pt", top_key="generator_ema")


def test_pickles_of_the_format_before_zip_are_read(tmp_path):
    torch.save({"generator": STATE}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    check(open_checkpoint(tmp_path / "m.pt"))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_pickles_are_refused_or_read(tmp_path, zipped):
    """Nothing but `CheckpointError` comes out, and most damage is noticed."""
    path, rng = tmp_path / "m.pt", random.Random(0)
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    whole, refused = path.read_bytes(), 0
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(3):
            content[rng.randrange(400)] = rng.randrange(256)
        path.write_bytes(content)
        try:
            found = open_checkpoint(path)
            [found.tensor(name) for name in found]
        except CheckpointError as error:
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
    assert refused > 75


def test_a_shape_is_looked_up_with_its_dimensions(tmp_path):
    save_file(STATE, tmp_path / "m.safetensors")
    found = open_checkpoint(tmp_path)
    assert found.shape("blocks.0.weight", 2) == (2, 3)
    with pytest.raises(CheckpointError, match=r"head.bias is \[3\], expected 2 dimensions"):
        found.shape("head.bias", 2)
    with pytest.raises(CheckpointError, match="has no tensor 'tail.bias'"):
        found.shape("tail.bias")


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "is not JSON: "), ("[]", "is not a JSON object"), ("null", "is no")]
)
def test_a_damaged_config_is_refused(tmp_path, text, problem):
    save_file(STATE, tmp_path / "m.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=f"config.json {problem}"):
        open_checkpoint(tmp_path)


def test_folders_without_weights_and_paths_that_are_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="has no .safetensors file"):
        open_checkpoint(tmp_path)
    for name in ("a", "b"):
        save_file(STATE, tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match="has 2 .safetensors files and no index"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "source",
    ["/nowhere.pt", "./x.pt", "../models/x.pt", ".../a/b.pt", "~/x.pt", "x.pt", "foo..bar/baz", "my/a--b", "a/-b",
     "a/b/../../c.pt", f"a/{'b' * 97}", "a" * 5000],
)  # fmt: skip
def test_names_that_are_neither_paths_nor_hub_ids(source):
    with pytest.raises(CheckpointError, match=f"no file or folder '{re.escape(source)}'$"):
        open_checkpoint(source)


@pytest.mark.parametrize(
    "cause",
    [
        LocalEntryNotFoundError("no connection"),
        RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None)),
        GatedRepoError("403", response=SimpleNamespace(headers={}, request=None)),
        EntryNotFoundError("no such file"),
        OSError("disk is full"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_what_the_hub_refuses_is_one_line_with_the_cause(monkeypatch, cause):
    def fail(*names, **options):
        raise cause

    monkeypatch.setattr(module, "snapshot_download", fail)
    text = f"'org/model' cannot be fetched from the hub: {type(cause).__name__}: {cause}"
    with pytest.raises(CheckpointError, match=re.escape(text)) as caught:
        open_checkpoint("org/model", download=True)
    assert caught.value.__cause__ is cause


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
