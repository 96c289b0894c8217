"""A distribution as if pip had installed it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def installed(folder: Path, monkeypatch: Any) -> None:
    """Make the one-package distribution in `folder` importable, with the entry points of its ``pyproject.toml``."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    package = project["name"].replace("-", "_")
    info = folder / f"{package}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["vace_adapt"]
    (info / "entry_points.txt").write_text("[vace_adapt]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    monkeypatch.syspath_prepend(str(folder))
