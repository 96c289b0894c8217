"""Weight files as one thing: names and shapes first, tensors one at a time.

Reads a ``.safetensors`` file, an ``.safetensors.index.json`` with its shards, a folder holding either, a ``.pt`` or
``.pth`` (never unpickling anything but tensors), or a hub id ``org/name`` from the local cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from vace_adapt.errors import CheckpointError
from vace_adapt.weights.foreign import refusing
from vace_adapt.weights.locate import locate, weight_files
from vace_adapt.weights.pickles import read_pickle

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

    def shape(self, name: str, dims: int | None = None) -> tuple[int, ...]:
        """The shape of a tensor.

        Args:
            name: of the tensor.
            dims: how many dimensions it must have, none of them empty; None means any.

        Raises:
            CheckpointError: no such tensor, or of other dimensions.
        """
        if name not in self._shapes:
            raise CheckpointError(f"{self.path} has no tensor {name!r}")
        shape = self._shapes[name]
        if dims is not None and (len(shape) != dims or 0 in shape):
            raise CheckpointError(f"{self.path}: {name} is {list(shape)}, expected {dims} dimensions over 0")
        return shape

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
    state = read_pickle(files[0], top_key)
    return Checkpoint(path, {name: tuple(tensor.shape) for name, tensor in state.items()}, state.__getitem__, config)


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
        with refusing(CheckpointError, f"{file} is not a safetensors file"):
            handle = safe_open(file, framework="pt")
        for name in handle.keys():  # noqa: SIM118 - a handle is no mapping
            shapes[name] = tuple(handle.get_slice(name).get_shape())
            handles[name] = handle
    return Checkpoint(path, shapes, lambda name: handles[name].get_tensor(name), config)


def _config(path: Path) -> Mapping[str, object]:
    beside = (path if path.is_dir() else path.parent) / "config.json"
    if not beside.exists():
        return {}
    with refusing(CheckpointError, f"{beside} is not JSON"):
        config = json.loads(beside.read_text())
    if not isinstance(config, dict):
        raise CheckpointError(f"{beside} is not a JSON object")
    return config
