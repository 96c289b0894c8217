"""``vace-adapt rerun``: a run once more, and whether it made the same bits."""

from __future__ import annotations

from pathlib import Path

from vace_adapt.cli.status import COMPARISON_FAILED, DONE, INTERRUPTED
from vace_adapt.experiments.rerun import rerun


def rerun_command(folder: str, target: str | None) -> int:
    """Run, compare, say what was found; 1 if the bits differ."""
    found = rerun(Path(folder), None if target is None else Path(target))
    if found is None:
        print("interrupted: nothing was compared")
        return INTERRUPTED
    print(f"folder   {found.folder}")
    same = found.first_other is None
    if same:
        print(f"the same bits in all {found.chunks} chunks")
    else:
        print(f"other bits from chunk {found.first_other} on, of {found.chunks} chunks")
    for difference in found.differences:
        print(f"changed  {difference}")
    if not same and not found.differences:
        print("changed  nothing that is recorded")
    return DONE if same else COMPARISON_FAILED
