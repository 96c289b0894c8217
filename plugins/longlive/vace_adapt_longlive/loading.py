"""The real LongLive from its official files (``longlive_base.pt``, ``lora.pt``), or around a live model."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from vace_adapt.contract import PipelineParts, WeightsSettings
from vace_adapt.weights.parts import load_wan_parts
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
    """Load what `weights` names; see the hook `vace_load_pipeline`."""
    return load_wan_parts(
        settings,
        weights,
        device,
        dtype,
        model,
        layout,
        backbone=settings.backbone,
        draws=len(settings.denoising_steps),
        top_key="generator_ema" if settings.use_ema else None,
        lora=settings.lora,
        check=partial(check_model, settings=settings),
    )
