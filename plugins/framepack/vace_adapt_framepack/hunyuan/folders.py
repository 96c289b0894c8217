"""Parts of the released folders, through diffusers' and transformers' own loaders, but strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from vace_adapt.errors import CheckpointError
from vace_adapt.weights.foreign import refusing
from vace_adapt.weights.locate import locate


def inside(source: str, part: str, *, download: bool) -> Path:
    """The folder of a part: `part` inside `source`, or `source` itself.

    Raises:
        CheckpointError: it is no folder, or cannot be fetched.
    """
    path = locate(source, download=download)
    if not path.is_dir():
        raise CheckpointError(f"{path} is a file: expected a folder, in diffusers' layout")
    return path / part if (path / part).is_dir() else path


def loaded(kind: Any, folder: Path, dtype: torch.dtype, *, strict: bool = False) -> Any:
    """A model of a class of diffusers or transformers, on the CPU.

    Both libraries fill tensors that a file lacks with random numbers; here that is an error.

    Args:
        kind: the class.
        folder: with its config and its weights.
        dtype: of the weights.
        strict: refuse tensors that the class has no place for, too.

    Raises:
        CheckpointError: unreadable, or tensors that do not fit, with their number and the first name.
    """
    options = {"dtype" if issubclass(kind, PreTrainedModel) else "torch_dtype": dtype}
    with refusing(CheckpointError, f"{folder} is no {kind.__name__}"):
        model, found = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True, **options)
    wrong = {"missing": found["missing_keys"], "unexpected": found["unexpected_keys"] if strict else ()}
    parts = [f"{len(names)} tensors {what} (first {min(names)!r})" for what, names in wrong.items() if names]
    if parts:
        raise CheckpointError(f"{folder} is no {kind.__name__}: {' and '.join(parts)}")
    return model
