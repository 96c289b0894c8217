"""Trackers that are told about a run while it goes on: ``output.trackers=[tensorboard,mlflow]``.

Each is an optional package (extras ``tensorboard`` and ``mlflow``) and sees what `metrics.json` and `config.yaml` hold.
"""

from __future__ import annotations

import importlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from vace_adapt.config.settings import RunSettings, TrackerName
from vace_adapt.contract import ChunkReport
from vace_adapt.errors import SettingsError

EVENTS = "tensorboard"
"""Folder of TensorBoard's events in the run's: ``tensorboard --logdir outputs`` finds those of every run."""

EXPERIMENT = "vace_adapt"
"""MLflow's experiment. Where it is kept is MLflow's own choice: ``MLFLOW_TRACKING_URI``."""

LONGEST_PARAMETER = 500
"""Characters of a value that MLflow takes."""


class Tracker(Protocol):
    """What a run tells while it goes on."""

    def chunk(self, values: Mapping[str, float], index: int) -> None:
        """A chunk is finished: its numbers by name."""

    def finish(self, values: Mapping[str, float], files: list[Path], *, interrupted: bool) -> None:
        """The run is finished, and its files are written: its numbers by name."""

    def discard(self) -> None:
        """The run has failed and leaves nothing."""


def check_installed(names: tuple[TrackerName, ...]) -> None:
    """Refuse a tracker that cannot be imported.

    Raises:
        SettingsError: its package is not installed.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            raise SettingsError(f"output.trackers: {name} is not installed: pip install 'vace-adapt[{name}]'") from None


class Trackers:
    """The trackers of one run. One that fails is told nothing more, with a warning; the run goes on.

    Args:
        names: which.
        folder: of the run.
        settings: of the run.

    Raises:
        SettingsError: one cannot be opened; none is.
    """

    def __init__(self, names: tuple[TrackerName, ...], folder: Path, settings: RunSettings) -> None:
        self._open: list[Tracker] = []
        for name in names:
            try:
                self._open.append(OPENED[name](folder, settings))
            except Exception as error:
                self.discard()
                raise SettingsError(f"output.trackers: {name} cannot be opened: {error}") from error

    def chunk(self, report: ChunkReport) -> None:
        """A chunk is finished."""
        self._tell(lambda tracker: tracker.chunk(of_chunk(report), report.index))

    def finish(self, metrics: Mapping[str, Any], files: list[Path], *, interrupted: bool) -> None:
        """The run is finished, and its files are written."""
        self._tell(lambda tracker: tracker.finish(of_run(metrics), files, interrupted=interrupted))

    def discard(self) -> None:
        """The run leaves nothing."""
        self._tell(lambda tracker: tracker.discard())

    def _tell(self, tell: Callable[[Tracker], None]) -> None:
        for tracker in list(self._open):
            try:
                tell(tracker)
            except Exception as error:
                self._open.remove(tracker)
                name = type(tracker).__name__
                warnings.warn(f"output.trackers: {name} failed and is told nothing more: {error}", stacklevel=2)


def of_chunk(report: ChunkReport) -> dict[str, float]:
    """The numbers of a chunk: seconds, frames a second, MiB, and the largest drift of its rows."""
    return {
        "seconds": report.seconds,
        "fps": report.fps,
        "cache_mib": report.cache_bytes / 2**20,
        "peak_memory_mib": report.peak_memory_bytes / 2**20,
        "drift": max(report.drift),
    }


def of_run(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in ``metrics.json`` that are of the whole run."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


class TensorBoard:
    """Events in the run folder: a step is a chunk."""

    def __init__(self, folder: Path, settings: RunSettings) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder / EVENTS
        self._writer: Any = SummaryWriter(str(self._folder))
        for name, value in flat(settings.model_dump(mode="json")):
            self._writer.add_text(f"config/{name}", value)

    def chunk(self, values: Mapping[str, float], index: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"chunk/{name}", value, index)

    def finish(self, values: Mapping[str, float], files: list[Path], *, interrupted: bool) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"run/{name}", value, 0)
        self._writer.close()

    def discard(self) -> None:
        self._writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class MLflow:
    """A run of MLflow with the configuration as parameters and the files as artifacts; a step is a chunk."""

    def __init__(self, folder: Path, settings: RunSettings) -> None:
        from mlflow import MlflowClient

        self._client: Any = MlflowClient()
        known = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = self._client.create_experiment(EXPERIMENT) if known is None else known.experiment_id
        self._run = self._client.create_run(experiment, run_name=folder.name).info.run_id
        for name, value in flat(settings.model_dump(mode="json")):
            self._client.log_param(self._run, name, value[:LONGEST_PARAMETER])

    def chunk(self, values: Mapping[str, float], index: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, f"chunk.{name}", value, step=index)

    def finish(self, values: Mapping[str, float], files: list[Path], *, interrupted: bool) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value)
        for file in files:
            self._client.log_artifact(self._run, str(file))
        self._client.set_terminated(self._run, "KILLED" if interrupted else "FINISHED")

    def discard(self) -> None:
        self._client.set_terminated(self._run, "FAILED")


OPENED: dict[TrackerName, Callable[[Path, RunSettings], Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


def flat(plain: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every value that is set in a configuration, as text, with its key; lists stay whole."""
    if isinstance(plain, Mapping):
        for key, value in plain.items():
            yield from flat(value, f"{name}.{key}" if name else str(key))
    elif plain is not None and plain != []:
        yield name, str(plain)
