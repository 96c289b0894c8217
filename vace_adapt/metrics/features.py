"""Features of pictures by a network that knows them: DINOv2 or CLIP, where its weights are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, CLIPVisionModelWithProjection, Dinov2Model

from vace_adapt.errors import CheckpointError
from vace_adapt.metrics.appearance import Array, Features
from vace_adapt.weights.foreign import refusing

NETWORKS: dict[str, tuple[Any, Any, Callable[[Any], Any]]] = {
    "dinov2": (Dinov2Model, BitImageProcessorPil, lambda made: made.pooler_output),
    "clip": (CLIPVisionModelWithProjection, CLIPImageProcessorPil, lambda made: made.image_embeds),
}
"""By ``model_type`` of ``config.json``: model, processor, and what stands for the picture."""


def load_features(source: str) -> Features:
    """The features of a network in the layout of transformers; nothing is asked of the network it came from.

    Args:
        source: a folder, or a hub id that is in the local Hugging Face cache, e.g. ``facebook/dinov2-base`` or
            ``openai/clip-vit-base-patch32``.

    Raises:
        CheckpointError: neither, another kind of model, or damaged.
    """
    folder = _folder(source)
    with refusing(CheckpointError, f"features {folder}: config.json is missing or damaged"):
        kind = json.loads((folder / "config.json").read_text())["model_type"]
    if kind not in NETWORKS:
        raise CheckpointError(
            f"features {folder} is a model of type {kind!r}, expected {' or '.join(map(repr, NETWORKS))}"
        )
    model_class, processor_class, picture = NETWORKS[kind]
    with refusing(CheckpointError, f"features {folder} cannot be loaded"):
        model, report = model_class.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        processor = processor_class.from_pretrained(folder, local_files_only=True)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise CheckpointError(f"features {folder} lacks {len(missing)} tensors of its model, first {missing[0]!r}")
    model.eval().requires_grad_(False)

    @torch.inference_mode()
    def features(pictures: Sequence[Array]) -> Array:
        pixels = processor(images=list(pictures), return_tensors="pt").pixel_values
        return np.asarray(torch.nn.functional.normalize(picture(model(pixel_values=pixels)), dim=1))

    return features


def _folder(source: str) -> Path:
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        raise CheckpointError(
            f"features {source!r} is neither a folder nor in the local Hugging Face cache: hf download {source}"
        ) from None
