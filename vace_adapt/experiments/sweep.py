"""Many runs from one command, through Hydra's sweepers and launchers; a sweep that was stopped goes on where it was.

Each run has a folder in the sweep's, named after what is swept and the hash of its configuration. A finished run of
the same configuration, inputs and weights is not made again. Importing this does not import torch.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from vace_adapt.config.compose import composing, plain_config, prepared
from vace_adapt.config.read import settings_of
from vace_adapt.config.settings import RunSettings
from vace_adapt.errors import InputError, VaceAdaptError
from vace_adapt.experiments.files import FileMark
from vace_adapt.experiments.folder import Taken
from vace_adapt.experiments.record import RECORD, config_hash, input_marks, read_record
from vace_adapt.quiet import quiet_imports

State = Literal["made", "finished before", "taken", "failed", "interrupted"]

LAUNCHER = ".hydra"
"""Folder in the sweep's for what Hydra's launchers write."""

LONGEST_NAME = 80
"""Characters of a run folder's name that say what is swept."""


@dataclass(frozen=True)
class Outcome:
    """What became of one run of a sweep.

    Attributes:
        folder: of the run.
        state: ``finished before`` was not made again; ``taken`` is being made by another process.
        text: why it failed.
    """

    folder: Path
    state: State
    text: str = ""


class Finished(Exception):
    """The folder holds a finished run of the same configuration, inputs and weights."""


def sweep(overrides: Sequence[str]) -> tuple[Path, list[Outcome]]:
    """Make every run the overrides name.

    Args:
        overrides: Hydra's, with several values at some keys; ``output.folder`` is the folder of the sweep. Where it is
            not given, the same overrides have the same folder, ``outputs/sweep-HASH``.

    Returns:
        The folder, and one outcome for each run, in order.

    Raises:
        PluginError, SettingsError: a name or key that does not exist; nothing was made.
        KeyboardInterrupt: Ctrl-C; what was made until then stays.
    """
    texts, others = prepared(overrides, sweep=True)
    named = texts.pop("output.folder", None)
    folder = Path(named) if named else Path("outputs") / f"sweep-{_short(repr(sorted(overrides)))}"
    quiet = [
        f"hydra.sweep.dir={str(folder.absolute() / LAUNCHER)!r}",
        "hydra.sweep.subdir='.'",
        "hydra.output_subdir=null",
        "hydra.job.chdir=false",
        "hydra/hydra_logging=disabled",
        "hydra/job_logging=disabled",
    ]
    job = Job(folder.absolute(), Path.cwd(), dict(texts), tuple(others))
    with composing(others), _nothing_left(folder):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        batches: Any = hydra.multirun("config", job, [*others, *quiet], with_log_configuration=False)
    return folder, [outcome.return_value for batch in batches for outcome in batch]


@contextmanager
def _nothing_left(folder: Path) -> Iterator[None]:
    """If it fails before any run has a folder, the sweep's is gone again, with the parents that were made for it."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except HydraException:
        if made:
            shutil.rmtree(folder / LAUNCHER, ignore_errors=True)
            for path in made:
                with suppress(OSError):  # runs are in it
                    path.rmdir()
        raise


@dataclass(frozen=True)
class Job:
    """One run of a sweep, as Hydra's launchers call it, in this process or another.

    Attributes:
        folder: of the sweep.
        start: where relative paths begin.
        texts: free texts by key.
        given: the sweep's overrides; those of a run that are not among them are what is swept.
    """

    folder: Path
    start: Path
    texts: Mapping[str, str | None]
    given: tuple[str, ...]

    def __call__(self, config: DictConfig) -> Outcome:
        os.chdir(self.start)
        swept = [override for override in HydraConfig.get().overrides.task if override not in self.given]
        folder = self.folder / ("-".join(filter(None, map(_readable, swept)))[:LONGEST_NAME] or "run")
        try:
            settings = settings_of(plain_config(config, self.texts))
            folder = folder.with_name(f"{folder.name}-{config_hash(settings)[:8]}")
            return self._said(_made(settings, folder))
        except Taken as error:
            return self._said(Outcome(folder, "taken", str(error)))
        except VaceAdaptError as error:
            return self._said(Outcome(folder, "failed", str(error)))

    def _said(self, outcome: Outcome) -> Outcome:
        """Tell how it went, as soon as it is known."""
        print(f"{outcome.state:<15} {outcome.folder.name}{f': {outcome.text}' if outcome.text else ''}", flush=True)
        return outcome


def finished(folder: Path, settings: RunSettings) -> bool:
    """Whether a folder holds a finished run of these settings, whose inputs and weights have not changed since."""
    if not (folder / RECORD).is_file():
        return False
    try:
        record = read_record(folder)
    except InputError:
        return False
    done = record.config_hash == config_hash(settings) and not record.interrupted
    return done and not record.changed_files() and _contents(record.inputs) == _contents(input_marks(settings))


def _made(settings: RunSettings, folder: Path) -> Outcome:
    """Make a run, unless it is there."""
    if finished(folder, settings):
        return Outcome(folder, "finished before")
    quiet_imports()  # torch comes now, in whichever process this is
    from vace_adapt.experiments.output import clear
    from vace_adapt.experiments.start import sourced, start

    def clear_unfinished(there: Path) -> None:
        if finished(there, settings):
            raise Finished
        clear(there)

    settings = settings.model_copy(update={"output": settings.output.model_copy(update={"folder": folder})})
    try:
        result = start(settings, sourced(settings), progress=False, clear=clear_unfinished)
    except Finished:
        return Outcome(folder, "finished before")
    if result is None or result.interrupted:
        raise KeyboardInterrupt
    return Outcome(folder, "made")


def _contents(marks: Sequence[FileMark]) -> list[str]:
    return [mark.sha256 for mark in marks]


def _readable(override: str) -> str:
    """``controls.scale.control=0.5`` to ``control=0.5``; what names a group is its value alone."""
    key, _, value = override.lstrip("+").partition("=")
    name = "" if key in ("pipeline", "task", "experiment") else f"{key.rpartition('.')[2]}="
    return re.sub(r"[^\w.=+-]+", "_", f"{name}{value}").strip("_")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
