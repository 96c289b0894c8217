"""Where weights lie: a path, a folder, an index of shards, or a hub id ``org/name`` in the local cache."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import validate_repo_id

from vace_adapt.errors import CheckpointError
from vace_adapt.weights.foreign import refusing

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def locate(source: str | Path, *, download: bool) -> Path:
    """A path as it is; ``org/name`` as its folder in the local hub cache, ``org/name/file`` as that file.

    Raises:
        CheckpointError: neither a path nor a hub id, not in the cache, or not to be fetched.
    """
    if os.path.exists(source):
        return Path(source)
    repository, file = _hub_id(str(source))
    with refusing(CheckpointError, f"{str(source)!r} cannot be fetched from the hub"):
        try:
            return _from_hub(repository, file, download=download)
        except LocalEntryNotFoundError as error:
            if download:
                raise
            raise CheckpointError(
                f"{str(source)!r} is neither a path nor in the local hub cache; "
                "weights.download=true allows fetching it"
            ) from error


def weight_files(path: Path) -> list[Path]:
    """The files behind a path: itself, its shards, or what a folder holds."""
    if path.is_dir():
        indices = sorted(path.glob("*.safetensors.index.json"))
        single = sorted(path.glob("*.safetensors"))
        if indices:
            return _shards(indices[0])
        if len(single) == 1:
            return single
        what = f"{len(single)} .safetensors files and no index" if single else "no .safetensors file"
        raise CheckpointError(f"folder {path} has {what}")
    if path.name.endswith(".index.json"):
        return _shards(path)
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path} is not a checkpoint: expected .safetensors, .index.json, .pt or .pth")
    return [path]


def _hub_id(source: str) -> tuple[str, str | None]:
    """Repository and file of ``org/name`` or ``org/name/file``."""
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:/(.+))?", source)
    if found is None or source.startswith((".", "/", "~")) or ".." in source.split("/"):
        raise CheckpointError(f"no file or folder {source!r}")
    try:
        validate_repo_id(found[1])
    except HFValidationError as error:
        raise CheckpointError(f"no file or folder {source!r}") from error
    return found[1], found[2]


def _from_hub(repository: str, file: str | None, *, download: bool) -> Path:
    if file is None:
        return Path(snapshot_download(repository, local_files_only=not download))
    return Path(hf_hub_download(repository, file, local_files_only=not download))


def _shards(index: Path) -> list[Path]:
    """The files an index names, each once."""
    with refusing(CheckpointError, f"{index} is not an index of shards"):
        content = json.loads(index.read_text())
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} is not an index of shards: it has no weight_map from tensors to files")
    odd = [name for name in weight_map.values() if not (isinstance(name, str) and name.endswith(".safetensors"))]
    if odd:
        raise CheckpointError(f"{index} is not an index of shards: expected .safetensors files, not {odd[0]!r}")
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (index.parent / name).exists()]
    if missing:
        raise CheckpointError(f"{index} names {len(missing)} missing shards, first {missing[0]!r}")
    return [index.parent / name for name in names]
