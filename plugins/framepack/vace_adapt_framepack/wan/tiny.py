"""The tiny pipeline of backend ``wan``: random weights of toy size."""

from __future__ import annotations

import torch

from vace_adapt.contract import PipelineParts
from vace_adapt.embedded.tiny import TINY, TINY_CONTROL_LAYERS, seeded, tiny_text_encoder, tiny_vae
from vace_adapt_framepack.memory import check_memory
from vace_adapt_framepack.settings import FramePackSettings
from vace_adapt_framepack.wan.model import helios_of


def tiny_parts(settings: FramePackSettings, seed: int) -> PipelineParts:
    """See the hook `vace_tiny_pipeline`."""
    check_memory(settings, torch.device("cpu"), toy=True)
    return PipelineParts(
        model=seeded(lambda: helios_of(TINY), seed, "base"),
        layout="helios",
        settings=settings,
        device=torch.device("cpu"),
        dtype=torch.float32,
        backbone=TINY,
        vae=tiny_vae(seed),
        text_encoder=tiny_text_encoder(seed),
        draws=1,
        solver_steps=settings.denoise_steps(toy=True),
        control_layers=TINY_CONTROL_LAYERS,
        trained=False,
    )
