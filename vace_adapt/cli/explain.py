"""``vace-adapt explain``: what the inputs of a run amount to, without running it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch

from vace_adapt.cli.status import DONE
from vace_adapt.config.read import settings_from
from vace_adapt.experiments.explain import explain
from vace_adapt.experiments.source import open_source
from vace_adapt.loading import load_plugin


def explain_command(overrides: Sequence[str], *, as_json: bool) -> int:
    """Compose, validate, look at the inputs, and say what would be done with them."""
    settings = settings_from(overrides)
    hooks = load_plugin(settings.pipeline.name)
    source = open_source(settings, hooks.info)
    with torch.no_grad():
        description = explain(settings, source, hooks)
    if as_json:
        print(json.dumps(description.plain(), indent=2))
        return DONE
    size = "" if source.size == (source.height, source.width) else f", inputs at {source.size[0]}x{source.size[1]}"
    print(f"pipeline {settings.pipeline.name}: {source.frames} frames of {source.height}x{source.width}{size}")
    print(description)
    return DONE
