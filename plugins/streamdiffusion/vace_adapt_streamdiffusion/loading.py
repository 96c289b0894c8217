"""The real StreamDiffusionV2 from its official files, or around a live model."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import torch
from torch import nn

from vace_adapt.contract import PipelineParts, WeightsSettings
from vace_adapt.weights.parts import load_wan_parts
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
    parts = load_wan_parts(
        settings,
        weights,
        device,
        dtype,
        model,
        layout,
        backbone=settings.backbone,
        draws=len(settings.denoising_steps),
        top_key="generator_ema" if settings.use_ema else None,
        check=partial(check_model, settings=settings),
    )
    return dataclasses.replace(parts, **of_settings(settings))


def of_settings(settings: StreamDiffusionSettings) -> dict[str, Any]:
    """What `PipelineParts` says of the loop, whatever the weights."""
    steps = len(settings.denoising_steps)
    return {
        "draws": steps,
        "normalised_input": False,
        "starts_from_video": settings.start == "video",
        "chunks_at_once": steps if settings.stream_batch else 1,
    }
