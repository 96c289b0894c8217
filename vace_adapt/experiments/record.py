"""``run.json``: what a run depended on, and what shows that another one made the same. Importing this does not import
torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

import vace_adapt
from vace_adapt.config.settings import RunSettings
from vace_adapt.contract import Frozen, PipelineInfo
from vace_adapt.errors import InputError
from vace_adapt.experiments.files import FileMark, files_named
from vace_adapt.validation import mistakes_of

if TYPE_CHECKING:
    import torch

RECORD = "run.json"

FORMAT = 1
"""Version of the record."""

LIBRARIES = ("vace-adapt", "torch", "numpy", "diffusers", "transformers", "opencv-contrib-python-headless", "av")
"""What decides over the bits of a run."""

LONGEST_CHANGES = 1 << 20
"""Characters of uncommitted changes that are kept whole."""


class Machine(Frozen):
    """Where a run was made: bits are the same on the same machine only.

    Attributes:
        system: operating system and processor.
        device: as torch names it.
        threads: of torch's operations on the CPU.
    """

    system: str
    device: str
    threads: int


class GitState(Frozen):
    """The checkout the code was run from.

    Attributes:
        commit: its hash.
        changes: the uncommitted ones as a patch; only their SHA-256 where they are longer than a million characters.
        untracked: files git does not know.
    """

    commit: str
    changes: str
    untracked: tuple[str, ...]


class Record(Frozen):
    """Everything beside ``config.yaml`` that is needed to repeat a run.

    Attributes:
        format: `FORMAT`.
        config_hash: see `config_hash`.
        folder: where the command was given; relative paths of the configuration start there.
        versions: of Python, of `LIBRARIES` and of the plugin's distribution.
        machine: where it was made.
        git: the checkout; None where the package is installed.
        inputs: every file the configuration names, but for weights.
        weights: files by part: base, control, ...; empty where the weights are random.
        capabilities: what the plugin declares of itself, by name: ``full``, or how far it goes and why.
        chunks: SHA-256 of each chunk's frames, before they are encoded.
        interrupted: whether it was.
    """

    format: int = FORMAT
    config_hash: str
    folder: Path
    versions: dict[str, str]
    machine: Machine
    git: GitState | None
    inputs: tuple[FileMark, ...]
    weights: dict[str, tuple[FileMark, ...]]
    capabilities: dict[str, str] = Field(default_factory=dict)
    chunks: tuple[str, ...] = ()
    interrupted: bool = False

    def changed_files(self) -> list[Path]:
        """The files that are gone or have another content now."""
        weights = [mark for part in self.weights.values() for mark in part]
        return [mark.path for mark in (*self.inputs, *weights) if not mark.unchanged()]


def record_of(
    settings: RunSettings,
    info: PipelineInfo,
    distribution: str,
    device: torch.device,
    weights: dict[str, tuple[FileMark, ...]],
) -> Record:
    """What a run depends on, before it begins.

    Args:
        settings: of the run.
        info: what its pipeline says of itself.
        distribution: name and version of where that comes from.
        device: what it runs on.
        weights: marks of its files.
    """
    import torch

    named = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    declared = info.capabilities.items()
    return Record(
        config_hash=config_hash(settings),
        folder=Path.cwd(),
        versions=versions(distribution),
        machine=Machine(system=system(), device=named, threads=torch.get_num_threads()),
        git=git_state(),
        inputs=input_marks(settings),
        weights=weights,
        capabilities={name: ": ".join(filter(None, (can.support.value, can.reason))) for name, can in declared},
    )


def config_hash(settings: RunSettings) -> str:
    """SHA-256 of the configuration: the same for runs that make the same. Where the output goes, and who is told, is
    left out.
    """
    plain = settings.model_dump(mode="json")
    plain["output"] = {key: value for key, value in plain["output"].items() if key not in ("folder", "trackers")}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def input_marks(settings: RunSettings) -> tuple[FileMark, ...]:
    """Marks of every file the configuration names, but for weights."""
    plain = settings.model_dump(mode="json", exclude={"weights", "output", "pipeline", "task", "prompt"})
    return tuple(FileMark.of(path) for path in files_named(plain))


def versions(plugin: str) -> dict[str, str]:
    """Of what decides over the bits of a run.

    Args:
        plugin: name and version of the plugin's distribution.
    """
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **found, "plugin": plugin}


def system() -> str:
    """Operating system and processor."""
    return f"{platform.system()} {platform.machine()}, {_processor()}"


def git_state(folder: Path | None = None) -> GitState | None:
    """The checkout a folder belongs to, the package's own where none is named; None where it is in none."""
    where = folder or Path(vace_adapt.__file__).parent
    commit = _git(where, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(where, "diff", "HEAD", "--binary") or ""
    if len(changes) > LONGEST_CHANGES:
        changes = f"sha256 {hashlib.sha256(changes.encode()).hexdigest()}"
    untracked = _git(where, "ls-files", "--others", "--exclude-standard", "--full-name") or ""
    return GitState(commit=commit.strip(), changes=changes, untracked=tuple(untracked.splitlines()))


def read_record(folder: Path) -> Record:
    """The record of a run folder.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    path = folder / RECORD
    try:
        return Record.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{str(folder)!r} is not the folder of a finished run: {RECORD}: {error.strerror}") from None
    except ValidationError as error:
        raise InputError(f"{path} is not a record of a run: {'; '.join(mistakes_of(error, '', Record))}") from None
    except ValueError:
        raise InputError(f"{path} is not a record of a run: no JSON") from None


@cache
def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers; None where it is not there or the folder is no checkout."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done: Any = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
