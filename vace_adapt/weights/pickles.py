"""State dicts from ``.pt`` and ``.pth`` files, of which nothing but tensors is ever unpickled."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from vace_adapt.errors import CheckpointError
from vace_adapt.weights.foreign import refusing

TOP_KEYS = ("generator", "generator_ema", "generator_lora", "model", "state_dict", "model_state")
"""Keys under which trainers put a state dict; the first one present is taken, unless one is asked for."""

ZIP = b"PK\x03\x04"
"""The first bytes of a file torch can map into memory; older files are read whole."""

CODE = re.compile(r"GLOBAL|unrecognized function|allowlisted|not an allowed|Unsupported class")
"""What torch says of a pickle that names a class or a function; its other complaints are of damage."""


def read_pickle(path: Path, top_key: str | None) -> dict[str, Tensor]:
    """The state dict of a file, mapped into memory where its format allows.

    Args:
        path: a ``.pt`` or ``.pth``, as a zip or in the format before it.
        top_key: of a file that holds several state dicts.

    Raises:
        CheckpointError: damaged, no state dict, or a pickle that holds more than tensors.
    """
    with refusing(CheckpointError, f"{path} is damaged or not a checkpoint"):
        with path.open("rb") as file:
            zipped = file.read(len(ZIP)) == ZIP
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        except pickle.UnpicklingError as error:
            if CODE.search(str(error)):
                raise CheckpointError(
                    f"{path} is refused: it holds more than tensors, and loading it could run code"
                ) from error
            raise CheckpointError(f"{path} is damaged or not a checkpoint: its pickle cannot be read") from error
    return _state_dict(path, loaded, top_key)


def _state_dict(path: Path, loaded: object, top_key: str | None) -> dict[str, Tensor]:
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, not a state dict")
    some = ", ".join(map(str, list(loaded)[:5]))
    if top_key and top_key not in loaded:
        raise CheckpointError(f"{path} has no key {top_key!r}, only {some}")
    keys = [top_key] if top_key else [key for key in TOP_KEYS if isinstance(loaded.get(key), dict)]
    state = loaded[keys[0]] if keys else loaded
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dict: top keys are {some}")
    for name, tensor in state.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{path} is no state dict: a tensor is named {name!r}, expected a string")
        if tensor.layout != torch.strided or tensor.is_meta:
            raise CheckpointError(f"{path}: {name} is a {'meta' if tensor.is_meta else tensor.layout} tensor")
    return dict(state)
