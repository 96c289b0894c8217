"""The real LongLive from its official files, or around a live model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vace_adapt.contract import PipelineParts, WeightsSettings
from vace_adapt.errors import CheckpointError
from vace_adapt.weights.base import load_causal_wan
from vace_adapt.weights.lora import load_lora
from vace_adapt.weights.text import load_text_encoder
from vace_adapt.weights.vae import load_vae
from vace_adapt_longlive.live import check_model
from vace_adapt_longlive.settings import LongLiveSettings


def load_parts(
    settings: LongLiveSettings,
    weights: WeightsSettings,
    device: torch.device,
    dtype: torch.dtype,
    model: nn.Module | None,
    layout: str,
) -> PipelineParts:
    """Load what `weights` names; see the hook `vace_load_pipeline`.

    The base file is ``longlive_base.pt`` (top key ``generator``, or ``generator_ema`` with ``use_ema``), the LoRA
    ``lora.pt`` (top key ``generator_lora``).
    """
    backbone = settings.backbone
    for part in ("vae", "text_encoder", *(("base",) if model is None else ())):
        _given(weights, part)
    where: Any = {"device": device, "dtype": dtype, "download": weights.download}
    if model is None:
        top_key = "generator_ema" if settings.use_ema else None
        model = load_causal_wan(_given(weights, "base"), backbone, top_key=top_key, **where)
        if weights.lora is not None:
            load_lora(
                model,
                weights.lora,
                rank=settings.lora.rank,
                alpha=settings.lora.alpha,
                merge=weights.lora_mode == "merged",
                download=weights.download,
            )
    elif weights.base or weights.lora:
        raise CheckpointError("a live model brings its own weights: give neither weights.base nor weights.lora")
    else:
        check_model(model, layout, settings)
    weight = next(model.get_submodule("patch_embedding").parameters())
    where.update(device=weight.device, dtype=weight.dtype)
    return PipelineParts(
        model=model,
        layout=layout,
        settings=settings,
        device=weight.device,
        dtype=weight.dtype,
        backbone=backbone,
        vae=load_vae(_given(weights, "vae"), **where),
        text_encoder=load_text_encoder(
            _given(weights, "text_encoder"), weights.tokenizer, backbone.text_len, backbone.text_dim, **where
        ),
        draws=len(settings.denoising_steps),
    )


def _given(weights: WeightsSettings, part: str) -> str:
    source: str | None = getattr(weights, part)
    if source is None:
        raise CheckpointError(f"weights.{part} is not given: LongLive needs base, vae and text_encoder")
    return source
