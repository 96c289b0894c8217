"""The parts of a pipeline whose base model is Wan2.1-shaped, from its official files or around a live model: what the
hook `vace_load_pipeline` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from vace_adapt.contract import Backbone, LoraSettings, PipelineParts, PipelineSettings, WeightsSettings
from vace_adapt.errors import CheckpointError
from vace_adapt.weights.base import load_causal_wan
from vace_adapt.weights.causal import backbone_sizes, check_live_model, native_sizes
from vace_adapt.weights.lora import load_lora
from vace_adapt.weights.text import load_text_encoder
from vace_adapt.weights.vae import load_vae


def load_wan_parts(
    settings: PipelineSettings,
    weights: WeightsSettings,
    device: torch.device,
    dtype: torch.dtype,
    model: nn.Module | None,
    layout: str,
    *,
    backbone: Backbone,
    draws: int,
    top_key: str | None = None,
    lora: LoraSettings | None = None,
    check: Callable[[nn.Module, str], None] | None = None,
) -> PipelineParts:
    """Base model, VAE and text encoder.

    Args:
        settings, weights, device, dtype, model, layout: as the hook got them. A live model keeps its device and dtype.
        backbone: sizes of the base model.
        draws: noise draws a chunk uses.
        top_key: which of several models in the base file; None takes ``generator`` where there are several.
        lora: sizes of the LoRA that the base's authors ship; None where they ship none.
        check: refuses a live model that is not what the settings say; None takes a `CausalWan` of the backbone's sizes.

    Raises:
        CheckpointError: a file is not given, cannot be read, or does not fit; a live model that is another one.
    """
    for part in ("vae", "text_encoder", *(("base",) if model is None else ())):
        if getattr(weights, part) is None:
            raise CheckpointError(
                f"weights.{part} is not given: pipeline {settings.name!r} needs base, vae and text_encoder"
            )
    if weights.lora is not None and lora is None:
        raise CheckpointError(f"weights.lora is given: pipeline {settings.name!r} takes none")
    if model is None:
        model = _base(weights, backbone, device, dtype, top_key, lora)
    elif weights.base or weights.lora:
        raise CheckpointError("a live model brings its own weights: give neither weights.base nor weights.lora")
    else:
        (check or partial(_check_native, backbone=backbone))(model, layout)
    weight = next(model.get_submodule("patch_embedding").parameters())
    where: Any = {"device": weight.device, "dtype": weight.dtype, "download": weights.download}
    return PipelineParts(
        model=model,
        layout=layout,
        settings=settings,
        device=weight.device,
        dtype=weight.dtype,
        backbone=backbone,
        vae=load_vae(str(weights.vae), **where),
        text_encoder=load_text_encoder(
            str(weights.text_encoder), weights.tokenizer, backbone.text_len, backbone.text_dim, **where
        ),
        draws=draws,
    )


def _base(
    weights: WeightsSettings,
    backbone: Backbone,
    device: torch.device,
    dtype: torch.dtype,
    top_key: str | None,
    lora: LoraSettings | None,
) -> nn.Module:
    model = load_causal_wan(str(weights.base), backbone, device, dtype, top_key=top_key, download=weights.download)
    if weights.lora is not None and lora is not None:
        merge = weights.lora_mode == "merged"
        load_lora(model, weights.lora, rank=lora.rank, alpha=lora.alpha, merge=merge, download=weights.download)
    return model


def _check_native(model: nn.Module, layout: str, backbone: Backbone) -> None:
    check_live_model(model, layout, native_sizes, backbone_sizes(backbone))
