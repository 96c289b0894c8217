"""The parts of a pipeline whose base model is a native `CausalWan`, from files: what most plugins load."""

from __future__ import annotations

from typing import Any

import torch

from vace_adapt.contract import Backbone, PipelineParts, PipelineSettings, WeightsSettings
from vace_adapt.errors import CheckpointError
from vace_adapt.weights.base import load_causal_wan
from vace_adapt.weights.text import load_text_encoder
from vace_adapt.weights.vae import load_vae


def load_wan_parts(
    settings: PipelineSettings,
    weights: WeightsSettings,
    device: torch.device,
    dtype: torch.dtype,
    *,
    backbone: Backbone,
    draws: int,
    top_key: str | None = None,
) -> PipelineParts:
    """Base model, VAE and text encoder; see the hook `vace_load_pipeline`.

    Args:
        settings, weights, device, dtype: as the hook got them.
        backbone: sizes of the base model.
        draws: noise draws a chunk uses.
        top_key: which of several models in the base file.

    Raises:
        CheckpointError: a file is not given, cannot be read, or does not fit.
    """
    for part in ("base", "vae", "text_encoder"):
        if getattr(weights, part) is None:
            raise CheckpointError(
                f"weights.{part} is not given: pipeline {settings.name!r} needs base, vae and text_encoder"
            )
    where: Any = {"device": device, "dtype": dtype, "download": weights.download}
    return PipelineParts(
        model=load_causal_wan(str(weights.base), backbone, top_key=top_key, **where),
        layout="native",
        settings=settings,
        device=device,
        dtype=dtype,
        backbone=backbone,
        vae=load_vae(str(weights.vae), **where),
        text_encoder=load_text_encoder(
            str(weights.text_encoder), weights.tokenizer, backbone.text_len, backbone.text_dim, **where
        ),
        draws=draws,
    )
