"""Weight files as one thing: names and shapes first, tensors one at a time.

Reads a ``.safetensors`` file, an ``.safetensors.index.json`` with its shards, a folder holding either, a ``.pt`` or
``.pth`` (never unpickling anything but tensors), or a hub id ``org/name`` from the local cache.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vace_adapt.errors import CheckpointError

TOP_KEYS = ("generator", "generator_ema", "generator_lora", "model", "state_dict", "model_state")
"""Keys under which trainers put a state dict; the first one present is taken, unless one is asked for."""

PREFIXES = ("_fsdp_wrapped_module.", "module.", "model.diffusion_model.", "diffusion_model.", "model.", "transformer.")


class Checkpoint:
    """A read-only mapping of tensor names, without prefixes of trainers and wrappers.

    Attributes:
        path: what was opened, for messages.
        config: the ``config.json`` beside the weights, or an empty mapping.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, tuple[int, ...]],
        read: Callable[[str], Tensor],
        config: Mapping[str, object],
    ) -> None:
        self.path = path
        self.config = config
        self._read = read
        self._names = {strip_prefixes(name): name for name in shapes}
        self._shapes = {strip_prefixes(name): shape for name, shape in shapes.items()}
        if len(self._names) < len(shapes):
            raise CheckpointError(f"{path}: two tensors have one name once wrapper prefixes are taken off")

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def __len__(self) -> int:
        return len(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def tensor(self, name: str) -> Tensor:
        """One tensor, read now."""
        return self._read(self._names[name])


def open_checkpoint(
    source: str | Path, *, download: bool = False, top_key: str | None = None, subfolder: str | None = None
) -> Checkpoint:
    """Open weights without reading them.

    Args:
        source: a path, or a hub id.
        download: allow fetching a hub id that is not in the local cache.
        top_key: of a ``.pt`` file that holds several state dicts.
        subfolder: where a diffusers pipeline folder keeps this part.

    Raises:
        CheckpointError: nothing there, not a checkpoint, damaged, or a pickle that holds more than tensors.
    """
    path = locate(source, download=download)
    if subfolder and (path / subfolder).is_dir():
        path = path / subfolder
    files = weight_files(path)
    config = _config(path)
    if files[0].suffix == ".safetensors":
        if top_key is not None:
            raise CheckpointError(f"{path} has no key {top_key!r}: a safetensors file holds one state dict")
        return _open_safetensors(path, files, config)
    return _open_pickle(files[0], top_key, config)


def locate(source: str | Path, *, download: bool) -> Path:
    """A path as it is; ``org/name`` as its folder in the local hub cache, ``org/name/file`` as that file."""
    path = Path(source)
    if path.exists():
        return path
    hub = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:/(.+))?", str(source))
    if hub is None:
        raise CheckpointError(f"no file or folder {str(source)!r}")
    try:
        if hub[2]:
            return Path(hf_hub_download(hub[1], hub[2], local_files_only=not download))
        return Path(snapshot_download(hub[1], local_files_only=not download))
    except LocalEntryNotFoundError:
        raise CheckpointError(
            f"{str(source)!r} is neither a path nor in the local hub cache; weights.download=true allows fetching it"
        ) from None


def weight_files(path: Path) -> list[Path]:
    """The files behind a path: itself, its shards, or what a folder holds."""
    if path.is_dir():
        indices = sorted(path.glob("*.safetensors.index.json"))
        single = sorted(path.glob("*.safetensors"))
        if indices:
            return weight_files(indices[0])
        if len(single) == 1:
            return single
        what = f"{len(single)} .safetensors files and no index" if single else "no .safetensors file"
        raise CheckpointError(f"folder {path} has {what}")
    if path.name.endswith(".index.json"):
        try:
            names = sorted(set(json.loads(path.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is not an index of shards") from error
        missing = [name for name in names if not (path.parent / name).exists()]
        if missing:
            raise CheckpointError(f"{path} names {len(missing)} missing shards, first {missing[0]!r}")
        return [path.parent / name for name in names]
    if path.suffix not in (".safetensors", ".pt", ".pth", ".bin"):
        raise CheckpointError(f"{path} is not a checkpoint: expected .safetensors, .index.json, .pt or .pth")
    return [path]


def strip_prefixes(name: str) -> str:
    """Take off what trainers and wrappers put in front: ``model._fsdp_wrapped_module.blocks.0...`` to
    ``blocks.0...``.
    """
    name = name.replace("_fsdp_wrapped_module.", "")
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _open_safetensors(path: Path, files: list[Path], config: Mapping[str, object]) -> Checkpoint:
    handles = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            handle = safe_open(file, framework="pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is not a safetensors file: {error}") from error
        for name in handle.keys():  # noqa: SIM118 - a handle is no mapping
            shapes[name] = tuple(handle.get_slice(name).get_shape())
            handles[name] = handle
    return Checkpoint(path, shapes, lambda name: handles[name].get_tensor(name), config)


def _open_pickle(path: Path, top_key: str | None, config: Mapping[str, object]) -> Checkpoint:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is refused: it holds more than tensors, and loading it could run code"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint: {error}") from error
    state = _state_dict(path, loaded, top_key)
    return Checkpoint(path, {name: tuple(tensor.shape) for name, tensor in state.items()}, state.__getitem__, config)


def _state_dict(path: Path, loaded: object, top_key: str | None) -> dict[str, Tensor]:
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, not a state dict")
    keys = [top_key] if top_key else [key for key in TOP_KEYS if isinstance(loaded.get(key), dict)]
    if top_key and top_key not in loaded:
        raise CheckpointError(f"{path} has no key {top_key!r}, only {', '.join(map(str, list(loaded)[:5]))}")
    state = loaded[keys[0]] if keys else loaded
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dict: top keys are {', '.join(map(str, list(loaded)[:5]))}")
    return dict(state)


def _config(path: Path) -> Mapping[str, object]:
    beside = (path if path.is_dir() else path.parent) / "config.json"
    if not beside.exists():
        return {}
    try:
        config = json.loads(beside.read_text())
    except ValueError as error:
        raise CheckpointError(f"{beside} is not JSON") from error
    return config if isinstance(config, dict) else {}
