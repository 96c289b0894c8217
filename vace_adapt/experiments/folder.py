"""The folder of one run: claimed before any work is done, so that two runs never write into one."""

from __future__ import annotations

import errno
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from vace_adapt.errors import InputError

if sys.platform != "win32":
    import fcntl

CLAIM = ".claimed"
"""A file that marks the folder as taken while its run goes on. It is locked, and a lock ends with its process: what a
killed run leaves behind can be told from what a running one holds.
"""


class Taken(InputError):
    """Another run is writing into the folder."""


@contextmanager
def claimed(folder: Path | None, stem: str, clear: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """A folder that is this run's alone; what was made of it is gone again if no file is left in it at the end.

    Args:
        folder: what the user asked for: new or empty. None makes a new one, ``outputs/STEM-TIME``.
        stem: what a new folder's name begins with.
        clear: called where something is in the folder and no other run holds it: takes away what may go, or raises.

    Raises:
        Taken: another run holds the folder.
        InputError: the folder cannot be made, or something is in it.
    """
    made: list[Path] = []
    lock: IO[Any] | None = None
    try:
        chosen, lock = _new(stem, made) if folder is None else _given(folder, made, clear)
        try:
            yield chosen
        finally:
            (chosen / CLAIM).unlink(missing_ok=True)
    finally:
        if lock is not None:
            lock.close()
        for path in reversed(made):
            with suppress(OSError):  # not empty: the run's files are in it
                path.rmdir()


def _given(folder: Path, made: list[Path], clear: Callable[[Path], None] | None) -> tuple[Path, IO[Any]]:
    name = f"output.folder {str(folder)!r}"
    lock: IO[Any] | None = None
    try:
        _make(folder, made)
        if clear is None and any(folder.iterdir()):
            raise InputError(f"{name} is not empty: choose another")
        lock = _locked(folder / CLAIM, new=clear is None)
        if clear is not None:
            clear(folder)
        if any(path.name != CLAIM for path in folder.iterdir()):
            raise InputError(f"{name} is not empty: choose another")
    except (FileExistsError, BlockingIOError):
        raise Taken(f"{name} is taken by another run: choose another") from None
    except OSError as error:
        raise InputError(f"{name} cannot be written: {error.strerror}") from error
    except BaseException:
        if lock is not None:
            lock.close()
            (folder / CLAIM).unlink(missing_ok=True)
        raise
    return folder, lock


def _new(stem: str, made: list[Path]) -> tuple[Path, IO[Any]]:
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
        return folder, _locked(folder / CLAIM, new=True)
    except OSError as error:
        raise InputError(f"the run folder {str(first)!r} cannot be written: {error.strerror}") from error


def _locked(path: Path, *, new: bool) -> IO[Any]:
    """The claim, open and locked.

    Raises:
        FileExistsError: it is there and should be `new`.
        BlockingIOError: another process holds it, or has just let it go.
    """
    if new or sys.platform == "win32":
        return _lock(path.open("x"))
    claim = _lock(path.open("a"))
    try:
        gone = os.fstat(claim.fileno()).st_ino != path.stat().st_ino
    except FileNotFoundError:
        gone = True
    if gone:  # it was let go between opening and locking: what it marked has just been finished
        claim.close()
        raise BlockingIOError
    return claim


def _lock(claim: IO[Any]) -> IO[Any]:
    if sys.platform == "win32":
        return claim
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        claim.close()
        raise
    return claim


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
