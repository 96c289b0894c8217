"""A run of whatever makes it: a streaming pipeline's plugin, or batch VACE. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vace_adapt.batch.declaration import BATCH_VACE, INFO
from vace_adapt.config.settings import RunSettings
from vace_adapt.experiments.source import Source, open_source
from vace_adapt.experiments.trackers import check_installed
from vace_adapt.loading import load_plugin

if TYPE_CHECKING:
    from vace_adapt.experiments.output import RunResult


def sourced(settings: RunSettings) -> Source:
    """The inputs of a run; see `open_source`."""
    batch = settings.pipeline.name == BATCH_VACE
    return open_source(settings, INFO if batch else load_plugin(settings.pipeline.name).info)


def start(
    settings: RunSettings, source: Source, *, progress: bool = True, clear: Callable[[Path], None] | None = None
) -> RunResult | None:
    """Do what the settings say; see `vace_adapt.experiments.run.run`."""
    check_installed(settings.output.trackers)
    if settings.pipeline.name == BATCH_VACE:
        from vace_adapt.experiments.run_batch import run_batch

        return run_batch(settings, source, progress=progress, clear=clear)
    from vace_adapt.experiments.run import run

    return run(settings, source, progress=progress, clear=clear)
