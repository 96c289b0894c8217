"""``vace-adapt compare``: finished runs side by side on one page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vace_adapt.cli.status import DONE
from vace_adapt.errors import InputError


def compare_command(
    folders: Sequence[str], out: str, *, title: str | None, conformance: Sequence[str], features: str | None = None
) -> int:
    """Measure the runs, write the page, say where it lies."""
    from vace_adapt.experiments.finished import read_run, run_folders

    target = Path(out)
    if not target.absolute().parent.is_dir() or target.is_dir():
        raise InputError(f"--out {out} cannot be written: it must be a file in a folder that is there")
    checked = dict(_checked(Path(file)) for file in conformance)
    runs = [read_run(folder) for folder in run_folders([Path(folder) for folder in folders])]
    from vace_adapt.comparison.page import page
    from vace_adapt.experiments.measure import measure
    from vace_adapt.metrics.features import load_features

    network = None if features is None else load_features(features)
    text = page(runs, [measure(run, network) for run in runs], title=title, conformance=checked)
    target.write_text(text, encoding="utf-8")
    print(f"{len(runs)} runs, {len(text) / 2**20:.1f} MiB")
    print(f"page     {target}")
    return DONE


def _checked(path: Path) -> tuple[str, str]:
    """Pipeline and what the conformance suite found, from the file of ``vace-adapt check NAME --json FILE``."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        outcomes = [check["outcome"] for check in report["checks"]]
        counted = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
        return str(report["pipeline"]), f"conformance {'passed' if report['passed'] else 'failed'}: {counted}"
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} is not what vace-adapt check --json writes") from None
