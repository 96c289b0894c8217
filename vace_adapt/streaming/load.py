"""From a pipeline's name to a `Pipeline`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from vace_adapt.context.blocks import ContextPath
from vace_adapt.contract import PipelineParts, PipelineSettings, WeightsSettings
from vace_adapt.embedded.family import family_weights
from vace_adapt.embedded.tiny import tiny_context_path
from vace_adapt.errors import InputError, SettingsError, closest
from vace_adapt.facade import PipelineHooks
from vace_adapt.loading import load_plugin
from vace_adapt.streaming.pipeline import Pipeline
from vace_adapt.validation import validated
from vace_adapt.weights.control import load_context_path
from vace_adapt.weights.modules import place

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_pipeline(
    name: str,
    *,
    weights: WeightsSettings | Mapping[str, Any] | None = None,
    settings: PipelineSettings | Mapping[str, Any] | None = None,
    model: nn.Module | None = None,
    layout: str | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    seed: int | None = None,
    observers: Iterable[object] = (),
) -> Pipeline:
    """Load a pipeline.

    Args:
        name: an installed pipeline; ``vace-adapt list`` shows them.
        weights: paths or hub ids, see `WeightsSettings`; nothing given means the embedded tiny weights.
        settings: the plugin's numbers; what is not named has the official default.
        model: a live base model of the official repository, to use instead of ``weights.base``.
        layout: which of the plugin's declared layouts `model` has.
        device: ``auto`` (cuda, else mps, else cpu), or any torch device. A live model stays where it is.
        dtype: ``auto`` (bfloat16 on cuda, else float32), ``float32``, ``bfloat16`` or ``float16``. A live model keeps
            its own.
        seed: of random tiny weights, in place of the embedded trained ones; for tests.
        observers: objects implementing `vace_chunk_done`.

    Raises:
        PluginError: the plugin cannot be used.
        SettingsError: settings or weights that are not valid.
        CheckpointError: weights that cannot be read or do not fit.
    """
    hooks = load_plugin(name, observers)
    chosen_device = pick_device(device)
    chosen_dtype = pick_dtype(dtype, chosen_device)
    chosen_layout = _layout(hooks, layout, model)
    given = settings if isinstance(settings, PipelineSettings) else {"name": name, **(settings or {})}
    numbers = validated(hooks.settings_type(), given, "pipeline")
    if numbers.name != name:
        raise SettingsError(f"pipeline.name: the settings are for {numbers.name!r}, the pipeline is {name!r}")
    files = validated(WeightsSettings, weights or {}, "weights")
    if model is None and files.embedded:
        shipped = hooks.embedded_base(numbers) if seed is None else None
        if shipped is None:
            return tiny_pipeline(hooks, numbers, chosen_device, chosen_dtype, seed or 0, download=files.download)
        numbers, files = shipped.settings, family_weights(shipped.file, download=files.download)
    parts = hooks.load_pipeline(numbers, files, chosen_device, chosen_dtype, model, chosen_layout)
    return Pipeline(hooks, parts, _context(files, parts), live=model is not None, download=files.download)


def tiny_pipeline(
    hooks: PipelineHooks,
    settings: PipelineSettings,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    *,
    download: bool = False,
) -> Pipeline:
    """A plugin's tiny pipeline with random weights of `seed`; see `vace_tiny_pipeline`. It has control where its parts
    say which blocks receive hints.
    """
    parts = dataclasses.replace(hooks.tiny_pipeline(settings, seed), device=device, dtype=dtype)
    parts.text_encoder.to(device, dtype)
    place(parts.vae, device, dtype, float32_parts=())
    place(parts.model, device, dtype)
    if parts.control_layers is None:
        return Pipeline(hooks, parts, None, download=download)
    context = tiny_context_path(seed, parts.backbone, parts.control_layers)
    return Pipeline(hooks, parts, place(context, device, dtype), download=download)


def pick_device(device: str | torch.device) -> torch.device:
    """``auto`` to the best device there is; anything else as torch reads it, if it is there."""
    if device != "auto":
        try:
            chosen = torch.device(device)
        except (RuntimeError, TypeError):
            raise InputError(f"device must be auto, cpu, cuda, cuda:N or mps, not {device!r}") from None
        try:
            torch.zeros(1, device=chosen).item()
        except Exception as error:
            raise InputError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
        return chosen
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """``auto`` to what the device computes best; anything else by name."""
    if isinstance(dtype, torch.dtype) and dtype in DTYPES.values():
        return dtype
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise InputError(f"dtype must be auto, {', '.join(DTYPES)}, not {dtype!r}{closest(str(dtype), DTYPES)}")
    return DTYPES[dtype]


def _context(files: WeightsSettings, parts: PipelineParts) -> ContextPath | None:
    if files.control is None or parts.hinted_blocks is not None:
        return None
    return load_context_path(files.control, parts.backbone, parts.device, parts.dtype, download=files.download)


def _layout(hooks: PipelineHooks, layout: str | None, model: nn.Module | None) -> str:
    known = list(hooks.info.layouts)
    if model is not None and layout is None:
        raise InputError(f"say which layout the live model has: one of {', '.join(known)}")
    if layout is not None and layout not in known:
        raise InputError(f"pipeline {hooks.name!r} has no layout {layout!r} (known: {', '.join(known)})")
    if model is None and layout not in (None, known[0]):
        raise InputError(f"layout {layout!r} is that of a live model: give model=...")
    return layout or known[0]
