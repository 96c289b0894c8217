"""The real StreamDiffusionV2 from its official files."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vace_adapt.contract import PipelineParts, WeightsSettings
from vace_adapt.errors import CheckpointError
from vace_adapt.weights.base import load_causal_wan
from vace_adapt.weights.text import load_text_encoder
from vace_adapt.weights.vae import load_vae
from vace_adapt_streamdiffusion.live import check_model
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings


def load_parts(
    settings: StreamDiffusionSettings,
    weights: WeightsSettings,
    device: torch.device,
    dtype: torch.dtype,
    model: nn.Module | None,
    layout: str,
) -> PipelineParts:
    """Load what `weights` names; see the hook `vace_load_pipeline`.

    The base file is ``model.pt`` (top key ``generator``, ``generator_ema``, ``state_dict`` or none; ``generator_ema``
    with ``use_ema``). It must fit exactly: the official code goes on with whatever tensors fit.
    """
    if weights.lora is not None:
        raise CheckpointError("weights.lora is given, and StreamDiffusionV2 comes without a LoRA")
    backbone = settings.backbone
    for part in ("vae", "text_encoder", *(("base",) if model is None else ())):
        _given(weights, part)
    where: Any = {"device": device, "dtype": dtype, "download": weights.download}
    if model is None:
        top_key = "generator_ema" if settings.use_ema else None
        model = load_causal_wan(_given(weights, "base"), backbone, top_key=top_key, **where)
    elif weights.base:
        raise CheckpointError("a live model brings its own weights: leave weights.base out")
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
        **of_settings(settings),
    )


def of_settings(settings: StreamDiffusionSettings) -> dict[str, Any]:
    """What `PipelineParts` says of the loop, whatever the weights."""
    steps = len(settings.denoising_steps)
    return {
        "draws": steps,
        "normalised_input": False,
        "starts_from_video": settings.start == "video",
        "chunks_at_once": steps if settings.stream_batch else 1,
    }


def _given(weights: WeightsSettings, part: str) -> str:
    source: str | None = getattr(weights, part)
    if source is None:
        raise CheckpointError(f"weights.{part} is not given: StreamDiffusionV2 needs base, vae and text_encoder")
    return source
