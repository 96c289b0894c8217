"""Large models on small cards, with diffusers' own means: weights stored in 8 bits, and weights kept in main memory."""

from __future__ import annotations

from typing import Any

import torch

from vace_adapt.errors import SettingsError
from vace_adapt_framepack.settings import FramePackSettings

STORED = {"float8": torch.float8_e4m3fn}
"""Values of ``pipeline.storage``."""

_LEVELS = {"block": "block_level", "leaf": "leaf_level"}


def check_memory(settings: FramePackSettings, device: torch.device, *, live: bool = False, toy: bool = False) -> None:
    """Refuse ``storage`` and ``offload`` where they cannot be.

    Args:
        settings: of the pipeline.
        device: the base model computes on.
        live: whether the model is an object of the user's.
        toy: whether its weights are random and of toy size.

    Raises:
        SettingsError: naming the reason.
    """
    asked = [name for name in ("storage", "offload") if getattr(settings, name) is not None]
    if asked and live:
        raise SettingsError(
            f"pipeline.{asked[0]}: a live model is left as it is; call its own enable_layerwise_casting or "
            "enable_group_offload before"
        )
    if asked and toy:
        raise SettingsError(f"pipeline.{asked[0]} is for weights that are loaded, not for random ones of toy size")
    if settings.offload is not None and device.type == "cpu":
        raise SettingsError(
            f"pipeline.offload={settings.offload} keeps weights in main memory until an accelerator needs them, "
            "and the device is cpu"
        )


def main_memory(settings: FramePackSettings, device: torch.device) -> torch.device:
    """Where the base model is loaded to, and where the text encoders stay."""
    return device if settings.offload is None else torch.device("cpu")


def save_memory(model: Any, settings: FramePackSettings, device: torch.device, dtype: torch.dtype) -> None:
    """Do what the settings ask for. It cannot be undone.

    Args:
        model: of diffusers, where `main_memory` says.
        settings: of the pipeline.
        device, dtype: it computes on and in.
    """
    if settings.storage is not None:
        model.enable_layerwise_casting(storage_dtype=STORED[settings.storage], compute_dtype=dtype)
    if settings.offload is not None:
        model.enable_group_offload(
            onload_device=device,
            offload_device=main_memory(settings, device),
            offload_type=_LEVELS[settings.offload],
            num_blocks_per_group=1 if settings.offload == "block" else None,
        )
