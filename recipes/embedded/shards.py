"""Shards: encoded clips in files of a few, each written whole or not at all, and never redone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

SHARD = 20
"""Clips in a file."""

Encode = Callable[[range], tuple[dict[str, Tensor], list[Any]]]
"""Makes the tensors of the clips of some seeds, [N, ...] each, and what is said of every clip, as JSON has it."""


def write_shard(folder: Path, number: int, encode: Encode, first_seed: int) -> None:
    """Encode the clips of one shard, unless it is there already."""
    path = folder / f"shard_{number:04d}.safetensors"
    if path.exists():
        return
    tensors, said = encode(range(first_seed + number * SHARD, first_seed + (number + 1) * SHARD))
    unfinished = path.with_suffix(".unfinished")
    save_file(tensors, unfinished, metadata={"clips": json.dumps(said)})
    os.replace(unfinished, path)


def load_shards(folder: Path) -> tuple[dict[str, Tensor], list[Any]]:
    """Every shard that is there, joined: tensors by name, and what is said of the clips."""
    shards, said = [], []
    for path in sorted(folder.glob("shard_*.safetensors")):
        with safe_open(path, framework="pt") as file:
            shards.append({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            said += json.loads(file.metadata()["clips"])
    if not shards:
        raise SystemExit(f"{folder} holds no encoded clips: run the stage {folder.name} first")
    return {name: torch.cat([shard[name] for shard in shards]) for name in sorted(shards[0])}, said
