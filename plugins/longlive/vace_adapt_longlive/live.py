"""What a live model must be, to be used in place of files: checked before anything is built around it."""

from __future__ import annotations

from typing import Any

from torch import nn

from vace_adapt.weights.causal import check_live_model, expected_sizes, native_sizes
from vace_adapt_longlive.settings import LongLiveSettings


def check_model(model: nn.Module, layout: str, settings: LongLiveSettings) -> None:
    """Refuse a live model that does not have the layout, or is not what the settings say.

    Raises:
        CheckpointError: naming what differs, with both numbers.
    """
    sizes = {"native": native_sizes, "official": _official}[layout]
    check_live_model(model, layout, sizes, expected_sizes(settings))


def _official(model: Any) -> dict[str, object]:
    """Bare or wrapped by peft. Whether its positions are absolute or relative is its class's own business."""
    attentions = [block.self_attn for block in model.get_submodule("blocks").children()]
    return {
        "width": model.get_submodule("patch_embedding").out_channels,
        "number of blocks": len(attentions),
        "number of heads": model.num_heads,
        "window (local_attn_size)": model.local_attn_size,
        "sink (sink_size)": max((attention.sink_size for attention in attentions), default=0),
    }
