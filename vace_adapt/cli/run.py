"""``vace-adapt run``: one run, or with ``-m`` a sweep of them."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from vace_adapt.batch.declaration import BATCH_VACE
from vace_adapt.cli.status import DONE, INTERRUPTED, SOME_FAILED
from vace_adapt.config.read import settings_from
from vace_adapt.config.settings import RunSettings
from vace_adapt.experiments.source import Source
from vace_adapt.experiments.start import sourced, start
from vace_adapt.facade import PipelineHooks
from vace_adapt.loading import load_plugin


def run_command(overrides: Sequence[str], *, show_config: bool) -> int:
    """Compose, validate, run, and say where the results lie."""
    settings = settings_from(overrides)
    if show_config:
        print(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), end="")
        return DONE
    return _run(settings)


def sweep_command(overrides: Sequence[str]) -> int:
    """Make every run the overrides name; 1 if any could not be made."""
    from vace_adapt.experiments.sweep import sweep

    folder, outcomes = sweep(overrides)
    states = [outcome.state for outcome in outcomes]
    print(f"{len(states)} runs: " + ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))
    print(f"folder   {folder}")
    print(f"compare  vace-adapt compare {folder}")
    return SOME_FAILED if {"failed", "taken"} & set(states) else DONE


def _run(settings: RunSettings) -> int:
    source = sourced(settings)
    if settings.pipeline.name == BATCH_VACE:
        print(f"pipeline {BATCH_VACE}, task {settings.task.name}: the whole clip at once, which is no stream")
    else:
        _explain(settings, source, load_plugin(settings.pipeline.name))
    print(f"making {source.frames} frames of {source.height}x{source.width} at {float(source.rate):g} frames a second")
    result = start(settings, source)
    if result is None:
        print("interrupted before the first chunk was made; nothing was written")
        return INTERRUPTED
    if result.interrupted:
        print(f"interrupted; the {result.frames} frames made so far are kept")
    print(f"video    {result.video}")
    print(f"sheet    {result.sheet}")
    print(f"metrics  {result.metrics}")
    return INTERRUPTED if result.interrupted else DONE


def _explain(settings: RunSettings, source: Source, hooks: PipelineHooks) -> None:
    """Say what the inputs amount to, and what it runs on."""
    from vace_adapt.experiments.explain import explain

    description = explain(settings, source, hooks)
    print(f"pipeline {settings.pipeline.name}, task {settings.task.name}: {description.task}")
    for ignored in description.ignored:
        print(f"ignored: {ignored}")
    if settings.weights.embedded:
        print(_embedded(hooks, settings))


def _embedded(hooks: PipelineHooks, settings: RunSettings) -> str:
    """What a run without weights runs on."""
    if hooks.embedded_base(settings.pipeline) is None:
        return "this pipeline ships no trained weights, its tiny ones are random: the output shows that the path works"
    return "no weights are named: toy models trained on moving shapes make a toy video"
