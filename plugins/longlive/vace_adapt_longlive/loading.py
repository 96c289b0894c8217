"""The real LongLive from its official files, or around a live model."""

from __future__ import annotations

import torch
from torch import nn
from vace_adapt.contract import PipelineParts, WeightsSettings
from vace_adapt.errors import CheckpointError
from vace_adapt.weights.base import load_causal_wan
from vace_adapt.weights.lora import load_lora
from vace_adapt.weights.text import load_text_encoder
from vace_adapt.weights.vae import load_vae

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

    The base file is ``longlive_base.pt`` (top key ``generator``, or ``generator_ema`` with ``use_ema``), the LoRA ``lora.pt``
    (top key ``generator_lora``).
    """
    needed = {"vae": weights.vae, "text_encoder": weights.text_encoder}
    if model is None:
        needed["base"] = weights.base
    missing = sorted(name for name, value in needed.items() if value is None)
    if missing:
        raise CheckpointError(f"weights.{missing[0]} is not given: LongLive needs base, vae and text_encoder")
    backbone = settings.backbone
    where = {"device": device, "dtype": dtype, "download": weights.download}
    if model is None:
        top_key = "generator_ema" if settings.use_ema else None
        model = load_causal_wan(weights.base, backbone, top_key=top_key, **where)
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
    return PipelineParts(
        model=model,
        layout=layout,
        settings=settings,
        backbone=backbone,
        vae=load_vae(weights.vae, **where),
        text_encoder=load_text_encoder(weights.text_encoder, weights.tokenizer, backbone.text_len, **where),
        draws=len(settings.denoising_steps),
    )
