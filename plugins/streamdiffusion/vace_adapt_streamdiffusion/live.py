"""What a live model must be, to be used in place of files: checked before anything is built around it."""

from __future__ import annotations

from typing import Any

from torch import nn

from vace_adapt.errors import SettingsError
from vace_adapt.weights.causal import check_live_model, native_sizes
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings


def check_model(model: nn.Module, layout: str, settings: StreamDiffusionSettings) -> None:
    """Refuse a live model that does not have the layout, or is not what the settings say.

    Raises:
        CheckpointError: naming what differs, with both numbers.
        SettingsError: the layout cannot do what the settings say.
    """
    expected = {
        "width": settings.backbone.dim,
        "number of blocks": settings.backbone.layers,
        "number of heads": settings.backbone.heads,
    }
    check_live_model(model, layout, {"native": native_sizes, "official": _official}[layout], expected)
    if layout == "official":
        check_settings(settings)


def check_settings(settings: StreamDiffusionSettings) -> None:
    """Refuse what the official attention does not do.

    Raises:
        SettingsError: with the setting to change.
    """
    if not settings.official_quirks:
        raise SettingsError("pipeline.official_quirks: layout 'official' runs the official attention: set it to true")
    if settings.position_limit is not None and settings.position_refresh != "official":
        raise SettingsError(
            f"pipeline.position_refresh: layout 'official' does not move cached keys, which "
            f"{settings.position_refresh!r} asks for: set it to official"
        )


def _official(model: Any) -> dict[str, object]:
    """Sink, its threshold and the order of slots are attributes that every call sets for its own stream."""
    blocks = list(model.get_submodule("blocks").children())
    for block in blocks:
        _ = block.self_attn.sink_size, block.self_attn.adapt_sink_thr, block.self_attn.evict_idx
    return {
        "width": model.get_submodule("patch_embedding").out_channels,
        "number of blocks": len(blocks),
        "number of heads": model.num_heads,
    }
