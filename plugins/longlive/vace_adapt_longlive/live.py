"""What a live model must be, to be used in place of files: checked before anything is built around it."""

from __future__ import annotations

from typing import Any

from torch import nn

from vace_adapt.errors import CheckpointError
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_longlive.settings import LongLiveSettings


def check_model(model: nn.Module, layout: str, settings: LongLiveSettings) -> None:
    """Refuse a live model that does not have the layout, or is not what the settings say.

    Raises:
        CheckpointError: naming what differs, with both numbers.
    """
    try:
        found = {"native": _native, "official": _official}[layout](model)
    except AttributeError as error:
        kind = type(model).__name__
        raise CheckpointError(f"the live model, a {kind}, does not have layout {layout!r}: {error}") from None
    backbone = settings.backbone
    expected = {
        "width": backbone.dim,
        "number of blocks": backbone.layers,
        "number of heads": backbone.heads,
        "window (local_attn_size)": settings.window,
        "sink (sink_size)": settings.sink,
    }
    for what, came in found.items():
        if came != expected[what]:
            raise CheckpointError(f"the live model's {what} is {came}, the settings say {expected[what]}")


def _native(model: nn.Module) -> dict[str, int]:
    """Window and sink of a native model are the cache's, so the settings alone decide them."""
    if not isinstance(model, CausalWan):
        raise AttributeError("it is no CausalWan (of a peft model, give get_base_model())")
    return {
        "width": model.patch_embedding.out_channels,
        "number of blocks": len(model.blocks),
        "number of heads": model.config.num_attention_heads,
    }


def _official(model: Any) -> dict[str, int]:
    """Bare or wrapped by peft. Whether its positions are absolute or relative is its class's own business."""
    attentions = [block.self_attn for block in model.get_submodule("blocks").children()]
    return {
        "width": model.get_submodule("patch_embedding").out_channels,
        "number of blocks": len(attentions),
        "number of heads": model.num_heads,
        "window (local_attn_size)": model.local_attn_size,
        "sink (sink_size)": max((attention.sink_size for attention in attentions), default=0),
    }
