"""A causal relative of Self-Forcing from its official files, or around a live model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from vace_adapt.contract import CausalSettings, PipelineParts, WeightsSettings
from vace_adapt.errors import CheckpointError
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.weights.base import load_causal_wan
from vace_adapt.weights.lora import load_lora
from vace_adapt.weights.text import load_text_encoder
from vace_adapt.weights.vae import load_vae


def load_causal_parts(
    title: str,
    settings: CausalSettings,
    weights: WeightsSettings,
    device: torch.device,
    dtype: torch.dtype,
    model: nn.Module | None,
    layout: str,
    check: Callable[[nn.Module, str], None],
) -> PipelineParts:
    """Load what `weights` names; see the hook `vace_load_pipeline`.

    Args:
        title: of the pipeline, for messages.
        settings: of the pipeline.
        weights: the base file has the top key ``generator`` (or ``generator_ema`` with ``use_ema``), the LoRA
            ``generator_lora``.
        device, dtype: of the parts; a live model keeps its own.
        model, layout: a live model in place of the base file.
        check: refuses a live model that is not what the settings say.
    """
    backbone = settings.backbone
    for part in ("vae", "text_encoder", *(("base",) if model is None else ())):
        _given(title, weights, part)
    where: Any = {"device": device, "dtype": dtype, "download": weights.download}
    if model is None:
        top_key = "generator_ema" if settings.use_ema else None
        model = load_causal_wan(_given(title, weights, "base"), backbone, top_key=top_key, **where)
        if weights.lora is not None:
            load_lora(
                model,
                weights.lora,
                rank=settings.lora.rank,
                alpha=settings.lora.alpha,
                merge=weights.lora_mode == "merged",
                download=weights.download,
            )
    elif weights.base or weights.lora:
        raise CheckpointError("a live model brings its own weights: give neither weights.base nor weights.lora")
    else:
        check(model, layout)
    weight = next(model.get_submodule("patch_embedding").parameters())
    where.update(device=weight.device, dtype=weight.dtype)
    return PipelineParts(
        model=model,
        layout=layout,
        settings=settings,
        device=weight.device,
        dtype=weight.dtype,
        backbone=backbone,
        vae=load_vae(_given(title, weights, "vae"), **where),
        text_encoder=load_text_encoder(
            _given(title, weights, "text_encoder"), weights.tokenizer, backbone.text_len, backbone.text_dim, **where
        ),
        draws=len(settings.denoising_steps),
    )


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


def expected_sizes(settings: CausalSettings) -> dict[str, object]:
    """What the settings say of everything a live model is checked for."""
    return {
        "width": settings.backbone.dim,
        "number of blocks": settings.backbone.layers,
        "number of heads": settings.backbone.heads,
        "window (local_attn_size)": settings.window,
        "sink (sink_size)": settings.sink,
    }


def _given(title: str, weights: WeightsSettings, part: str) -> str:
    source: str | None = getattr(weights, part)
    if source is None:
        raise CheckpointError(f"weights.{part} is not given: {title} needs base, vae and text_encoder")
    return source
