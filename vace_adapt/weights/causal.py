"""What a live model must be, to be used in place of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from vace_adapt.contract import Backbone, CausalSettings
from vace_adapt.errors import CheckpointError
from vace_adapt.models.causal_wan import CausalWan


def check_live_model(
    model: nn.Module, layout: str, sizes: Callable[[Any], Mapping[str, object]], expected: Mapping[str, object]
) -> None:
    """Refuse a live model that does not have the layout, or is not what the settings say.

    Args:
        model: the object.
        layout: for the message.
        sizes: reads off the model what can be checked, by name.
        expected: the same of the settings; may name more.

    Raises:
        CheckpointError: naming what differs, with both numbers.
    """
    try:
        found = sizes(model)
    except AttributeError as error:
        kind = type(model).__name__
        raise CheckpointError(f"the live model, a {kind}, does not have layout {layout!r}: {error}") from None
    for what, came in found.items():
        if came != expected[what]:
            raise CheckpointError(f"the live model's {what} is {came}, the settings say {expected[what]}")


def native_sizes(model: nn.Module) -> dict[str, object]:
    """Sizes of a live `CausalWan`. Its window and sink are the cache's, so the settings alone decide them."""
    if not isinstance(model, CausalWan):
        raise AttributeError("it is no CausalWan (of a peft model, give get_base_model())")
    return {
        "width": model.patch_embedding.out_channels,
        "number of blocks": len(model.blocks),
        "number of heads": model.config.num_attention_heads,
    }


def backbone_sizes(backbone: Backbone) -> dict[str, object]:
    """What `native_sizes` must be."""
    return {"width": backbone.dim, "number of blocks": backbone.layers, "number of heads": backbone.heads}


def expected_sizes(settings: CausalSettings) -> dict[str, object]:
    """What the settings say of everything that a live model of Self-Forcing's relatives is checked for."""
    return {
        **backbone_sizes(settings.backbone),
        "window (local_attn_size)": settings.window,
        "sink (sink_size)": settings.sink,
    }
