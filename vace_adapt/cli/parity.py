"""``vace-adapt parity``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vace_adapt.cli.status import COMPARISON_FAILED, DONE
from vace_adapt.errors import InputError
from vace_adapt.parity.replay import replay


def parity_command(files: Sequence[str], tolerance: float) -> int:
    """Replay files; 1 if any error is above the tolerance."""
    if not tolerance >= 0:
        raise InputError(f"--tolerance must be a number >= 0, not {tolerance}")
    failed = 0
    for file in files:
        found = replay(Path(file))
        passed = found.worst <= tolerance
        failed += not passed
        print(file)
        width = max(len(label) for label, _ in found.rows)
        for label, error in found.rows:
            mark = "" if error <= tolerance else "  above tolerance"
            print(f"  {label:<{width}}  {error:.2e}{mark}")
        print(f"  {'worst':<{width}}  {found.worst:.2e}  {'ok' if passed else 'FAILED'} (tolerance {tolerance:g})")
    print(f"{len(files) - failed} of {len(files)} files within {tolerance:g}")
    return COMPARISON_FAILED if failed else DONE
