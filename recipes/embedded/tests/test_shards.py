"""Shards are written once and whole, and joined in their order."""

from __future__ import annotations

import pytest
import shards
import torch
from shards import load_shards, write_shard


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 2)


def encode(seeds):
    return {"seed": torch.tensor(list(seeds))}, [{"said": seed} for seed in seeds]


def test_every_seed_is_in_one_shard(tmp_path):
    for number in (1, 0, 2):
        write_shard(tmp_path, number, encode, first_seed=70)
    tensors, said = load_shards(tmp_path)
    assert tensors["seed"].tolist() == [entry["said"] for entry in said] == list(range(70, 76))


def test_a_shard_is_written_once(tmp_path):
    write_shard(tmp_path, 0, encode, first_seed=70)
    write_shard(tmp_path, 0, encode, first_seed=99)
    assert load_shards(tmp_path)[0]["seed"].tolist() == [70, 71]


def test_a_shard_is_written_whole(tmp_path, monkeypatch):
    def dying(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shards, "save_file", dying)
        with pytest.raises(KeyboardInterrupt):
            write_shard(tmp_path, 0, encode, first_seed=70)
    assert not list(tmp_path.glob("shard_*.safetensors"))
    write_shard(tmp_path, 0, encode, first_seed=70)
    assert [path.name for path in tmp_path.iterdir()] == ["shard_0000.safetensors"]


def test_no_shard_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="holds no encoded clips: run the stage"):
        load_shards(tmp_path)
