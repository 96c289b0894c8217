"""The tiny StreamDiffusionV2 pipeline: the real classes, random weights."""

from __future__ import annotations

import torch

from vace_adapt.contract import PipelineParts
from vace_adapt.embedded.tiny import TINY, TINY_CONTROL_LAYERS, seeded, tiny_text_encoder, tiny_vae
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_streamdiffusion.loading import of_settings
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings


def tiny_parts(settings: StreamDiffusionSettings, seed: int) -> PipelineParts:
    """Base model, VAE and text encoder of the embedded sizes, drawn from `seed`."""
    return PipelineParts(
        model=seeded(lambda: CausalWan.of(TINY), seed, "base"),
        layout="native",
        settings=settings,
        device=torch.device("cpu"),
        dtype=torch.float32,
        backbone=TINY,
        vae=tiny_vae(seed),
        text_encoder=tiny_text_encoder(seed),
        control_layers=TINY_CONTROL_LAYERS,
        trained=False,
        **of_settings(settings),
    )
