"""What a live model must be, to be used in place of files: checked before anything is built around it."""

from __future__ import annotations

from typing import Any

from torch import nn

from vace_adapt.weights.causal import check_live_model, expected_sizes, native_sizes
from vace_adapt_memflow.settings import MemFlowSettings

CHUNK_FRAMES = 3
"""Latent frames of a chunk, and frames a sparse head sees: the official attention is written for these numbers."""


def check_model(model: nn.Module, layout: str, settings: MemFlowSettings) -> None:
    """Refuse a live model that does not have the layout, or is not what the settings say.

    Raises:
        CheckpointError: naming what differs, with both numbers.
    """
    expected = {
        **expected_sizes(settings),
        "bank (bank_size)": settings.bank,
        "record_interval": settings.record_interval,
        "sparse activation (SMA)": settings.sparse,
        "chunk length": settings.chunk_latents,
        "number of sparse frames": settings.sparse_frames,
    }
    sizes = {"native": native_sizes, "official": _official}[layout]
    check_live_model(model, layout, sizes, expected)


def _official(model: Any) -> dict[str, object]:
    """Bare or wrapped by peft."""
    attentions = [block.self_attn for block in model.get_submodule("blocks").children()]
    first = attentions[0]
    return {
        "width": model.get_submodule("patch_embedding").out_channels,
        "number of blocks": len(attentions),
        "number of heads": model.num_heads,
        "window (local_attn_size)": model.local_attn_size,
        "sink (sink_size)": first.sink_size,
        "bank (bank_size)": model.bank_size,
        "record_interval": first.record_interval,
        "sparse activation (SMA)": first.SMA,
        "chunk length": CHUNK_FRAMES,
        "number of sparse frames": CHUNK_FRAMES,
    }
