"""The weights of annotators: a folder in the layout of transformers, or a hub id in the local Hugging Face cache.

`vace_adapt.weights.locate` asks for every file of a repository. The repositories here hold the same weights in several
formats, so only `FILES` is asked for.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from vace_adapt.errors import CheckpointError
from vace_adapt.weights.foreign import refusing

FILES = ("*.json", "*.txt", "*.safetensors")
"""What is needed of a repository; pickles are neither fetched nor read."""


def weights_folder(annotator: str, source: str, *, download: bool, setting: str = "weights") -> Path:
    """The folder of an annotator's weights. Without `download` nothing is asked of the network.

    Args:
        annotator: its name, for errors.
        source: a folder, or a hub id ``org/name``.
        download: whether a hub id may be fetched.
        setting: the option that names the weights, for errors.

    Raises:
        CheckpointError: neither a folder nor in the local cache, or it cannot be fetched.
    """
    if os.path.isdir(source):
        return Path(source)
    what = f"annotator {annotator!r}: {setting} {source!r}"
    if os.path.exists(source):
        raise CheckpointError(f"{what} is a file, expected a folder with config.json and model.safetensors")
    with refusing(CheckpointError, f"{what} cannot be fetched from the hub"):
        try:
            return Path(snapshot_download(source, allow_patterns=list(FILES), local_files_only=not download))
        except HFValidationError as error:
            raise CheckpointError(f"{what}: no such folder, and not a hub id org/name") from error
        except LocalEntryNotFoundError as error:
            if download:
                raise
            raise CheckpointError(
                f"{what} is neither a folder nor in the local Hugging Face cache: give a folder with "
                f"controls.annotators.{annotator}.{setting}=PATH, or allow fetching it with weights.download=true"
            ) from error


_models: WeakValueDictionary[tuple[str, Any, str, str], Any] = WeakValueDictionary()
_loading = threading.Lock()


def load_model(annotator: str, folder: Path, kind: Any, types: tuple[str, ...], device: str, dtype: str) -> Any:
    """A model of transformers in evaluation mode, without gradients. It is shared by all who use the same one: every
    batch row, every stream.

    Args:
        annotator: its name, for errors.
        folder: holds ``config.json`` and safetensors.
        kind: the model class or auto class.
        types: the values of ``model_type`` in ``config.json`` that will do.
        device, dtype: where and in what it computes.

    Raises:
        CheckpointError: another model, damaged, or tensors are missing.
    """
    key = str(folder.resolve()), (kind, types), device, dtype
    with _loading:
        model = _models.get(key)
        if model is None:
            model = _models[key] = _loaded(annotator, folder, kind, types, device, dtype)
        return model


def _loaded(annotator: str, folder: Path, kind: Any, types: tuple[str, ...], device: str, dtype: str) -> Any:
    what = f"annotator {annotator!r}: {folder}"
    type_ = _model_type(what, folder)
    if type_ not in types:
        raise CheckpointError(f"{what} holds a model of type {type_!r}, expected {' or '.join(map(repr, types))}")
    with refusing(CheckpointError, f"{what} cannot be loaded"):
        model, report = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=getattr(torch, dtype),
            ignore_mismatched_sizes=True,  # refused below, in one line
            output_loading_info=True,
        )
    for name, came, expected in sorted(report["mismatched_keys"]):
        raise CheckpointError(f"{what}: {name} is {list(came)}, expected {list(expected)}")
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(f"{what} lacks {len(missing)} tensors of its model, first {missing[0]!r}")
    return model.eval().requires_grad_(False).to(device)


def load_part(annotator: str, folder: Path, kind: Any) -> Any:
    """A processor or tokenizer of transformers from a model's folder.

    Raises:
        CheckpointError: its files are missing or damaged.
    """
    with refusing(CheckpointError, f"annotator {annotator!r}: {folder} holds no {kind.__name__}"):
        return kind.from_pretrained(folder, local_files_only=True)


def _model_type(what: str, folder: Path) -> Any:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{what} has no config.json, expected a model's folder as it is on the hub")
    with refusing(CheckpointError, f"{what}: config.json is damaged"):
        return json.loads(path.read_text())["model_type"]
