"""A run once more, from its folder: the same bits on the same machine, or what differs."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from vace_adapt.config.read import settings_of
from vace_adapt.config.settings import OutputSettings, RunSettings
from vace_adapt.errors import InputError
from vace_adapt.experiments.output import CONFIG
from vace_adapt.experiments.record import Record, read_record


@dataclass(frozen=True)
class Repetition:
    """What a run and its repetition have in common.

    Attributes:
        folder: of the repetition.
        chunks: of the first run.
        first_other: number of the first chunk that differs; None if none does.
        differences: what it was made with, then and now, one line each.
    """

    folder: Path
    chunks: int
    first_other: int | None
    differences: tuple[str, ...]


def settings_of_run(folder: Path, record: Record) -> RunSettings:
    """The settings of a run folder, whose paths start where the run was given.

    Raises:
        InputError: its configuration cannot be read.
        VaceAdaptError: it is not valid any more.
    """
    path = folder / CONFIG
    try:
        plain: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(plain, dict):
        raise InputError(f"{path} is not the configuration of a run")
    with started_in(record.folder):
        return settings_of(plain)


@contextlib.contextmanager
def started_in(folder: Path) -> Any:
    """Within it, relative paths start in a folder, if it is still there."""
    with contextlib.chdir(folder) if folder.is_dir() else contextlib.nullcontext():
        yield


def rerun(folder: Path, target: Path | None, *, progress: bool = True) -> Repetition | None:
    """Run what a folder holds once more, and compare.

    Args:
        folder: of a finished run.
        target: new or empty; None is ``outputs/NAME-rerun``.
        progress: show a bar.

    Returns:
        What was found; None if it was interrupted.

    Raises:
        InputError: no finished run, an interrupted one, or one whose files have changed.
    """
    record = read_record(folder)
    if record.interrupted:
        raise InputError(f"the run in {str(folder)!r} was interrupted: there is no whole video to compare with")
    settings = settings_of_run(folder, record)
    if changed := record.changed_files():
        listed = ", ".join(str(path) for path in changed)
        raise InputError(f"files of the run in {str(folder)!r} are gone or have changed: {listed}")
    where = (target or _free(folder.absolute().name)).absolute()
    settings = settings.model_copy(update={"output": OutputSettings(folder=where, quality=settings.output.quality)})
    with started_in(record.folder):
        made = _made(settings, record, progress)
    return None if made is None else compare_records(record, made, where)


def compare_records(then: Record, now: Record, folder: Path) -> Repetition:
    """What two runs of one configuration have in common."""
    pairs = enumerate(zip_longest(then.chunks, now.chunks))
    other = next((index for index, (before, after) in pairs if before != after), None)
    return Repetition(folder, len(then.chunks), other, tuple(_differences(then, now)))


def _made(settings: RunSettings, record: Record, progress: bool) -> Record | None:
    """The record of a new run of the same settings, with as many threads."""
    import torch

    from vace_adapt.experiments.start import sourced, start

    threads = torch.get_num_threads()
    torch.set_num_threads(record.machine.threads)
    try:
        result = start(settings, sourced(settings), progress=progress)
    finally:
        torch.set_num_threads(threads)
    return None if result is None or result.interrupted else read_record(result.folder)


def _differences(then: Record, now: Record) -> list[str]:
    before, after = _circumstances(then), _circumstances(now)
    return [
        f"{name}: {before.get(name, 'none')} then, {after.get(name, 'none')} now"
        for name in sorted(before | after)
        if before.get(name) != after.get(name)
    ]


def _circumstances(record: Record) -> dict[str, str]:
    git = record.git
    changes = "" if git is None or not git.changes else hashlib.sha256(git.changes.encode()).hexdigest()[:8]
    state = "none" if git is None else f"{git.commit[:12]}{f' with changes {changes}' if changes else ''}"
    machine = {"system": record.machine.system, "device": record.machine.device, "threads": record.machine.threads}
    return {**record.versions, **{name: str(value) for name, value in machine.items()}, "code": state}


def _free(name: str) -> Path:
    """A folder in ``outputs`` that is not there yet."""
    first = Path("outputs").absolute() / f"{name}-rerun"
    others = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([first], others) if not folder.exists())
