"""Files a run depends on, told from others of the same name. Importing this does not import torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from vace_adapt.contract import Frozen

PORTION = 1 << 22
"""Bytes read at once."""


class FileMark(Frozen):
    """What a file was when it was read.

    Attributes:
        path: absolute.
        bytes: its size.
        modified: time of its last change in nanoseconds.
        sha256: of its content.
    """

    path: Path
    bytes: int
    modified: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileMark:
        """The mark of a file as it is now."""
        whole = path.absolute()
        stat = whole.stat()
        return cls(path=whole, bytes=stat.st_size, modified=stat.st_mtime_ns, sha256=digest(whole))

    def unchanged(self) -> bool:
        """Whether the file still has this content; it is read only if its time is another."""
        try:
            stat = self.path.stat()
            if stat.st_size != self.bytes:
                return False
            return stat.st_mtime_ns == self.modified or digest(self.path) == self.sha256
        except OSError:
            return False


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    made = hashlib.sha256()
    with path.open("rb") as file:
        while portion := file.read(PORTION):
            made.update(portion)
    return made.hexdigest()


def files_named(value: Any) -> list[Path]:
    """Every existing file named anywhere in plain containers of a configuration, sorted, each once."""
    if isinstance(value, dict):
        found = [path for inner in value.values() for path in files_named(inner)]
    elif isinstance(value, (list, tuple)):
        found = [path for inner in value for path in files_named(inner)]
    elif isinstance(value, (str, Path)) and value:
        found = [Path(value)] if _is_file(Path(value)) else []
    else:
        found = []
    return sorted(set(found))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a prompt may be longer than any name
        return False
