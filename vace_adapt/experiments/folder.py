"""The folder of one run: claimed before any work is done, so that two runs never write into one."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from vace_adapt.errors import InputError

CLAIM = ".claimed"
"""An empty file that marks the folder as taken while its run goes on."""


@contextmanager
def claimed(folder: Path | None, stem: str) -> Iterator[Path]:
    """A folder that is this run's alone; what was made of it is gone again if no file is left in it at the end.

    Args:
        folder: what the user asked for: new or empty. None makes a new one, ``outputs/STEM-TIME``.
        stem: what a new folder's name begins with.

    Raises:
        InputError: the folder cannot be made, or something is in it.
    """
    made: list[Path] = []
    try:
        chosen = _new(stem, made) if folder is None else _given(folder, made)
        try:
            yield chosen
        finally:
            (chosen / CLAIM).unlink(missing_ok=True)
    finally:
        for path in reversed(made):
            with suppress(OSError):  # not empty: the run's files are in it
                path.rmdir()


def _given(folder: Path, made: list[Path]) -> Path:
    name = f"output.folder {str(folder)!r}"
    try:
        _make(folder, made)
        if any(folder.iterdir()):
            raise InputError(f"{name} is not empty: choose another")
        (folder / CLAIM).touch(exist_ok=False)
    except FileExistsError:
        raise InputError(f"{name} is taken by another run: choose another") from None
    except OSError as error:
        raise InputError(f"{name} cannot be written: {error.strerror}") from error
    return folder


def _new(stem: str, made: list[Path]) -> Path:
    """A folder nobody else has: the moment it is made decides, not whether it was there before."""
    first = Path("outputs") / f"{stem}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    others = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    try:
        _make(first.parent, made)
        for folder in itertools.chain([first], others):
            with suppress(FileExistsError):
                folder.mkdir()
                made.append(folder)
                break
        (folder / CLAIM).touch()
    except OSError as error:
        raise InputError(f"the run folder {str(first)!r} cannot be written: {error.strerror}") from error
    return folder


def _make(folder: Path, made: list[Path]) -> None:
    """Make a folder and its parents, noting each that was not there; another run may be making them too."""
    for path in reversed([folder, *folder.parents]):
        if path.is_dir():
            continue
        try:
            path.mkdir()
            made.append(path)
        except FileExistsError:
            if not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "a file is in the way") from None
