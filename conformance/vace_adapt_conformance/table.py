"""``python -m vace_adapt_conformance.table NAME...``: checks x pipelines as Markdown, for a README. A NAME may have
settings behind it: ``'NAME key=value'``.

With ``--write FILE`` the table takes the place of what stands between ``<!-- conformance -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from vace_adapt.errors import InputError
from vace_adapt_conformance.check import Outcome
from vace_adapt_conformance.report import Report

MARKS = {
    Outcome.PASSED: "yes",
    Outcome.FAILED: "**no**",
    Outcome.UNSUPPORTED: "-",
    Outcome.NOT_IMPLEMENTED: "not yet",
    Outcome.MISSING: "**missing**",
}


def table(reports: Sequence[Report]) -> str:
    """One row for each check, one column for each pipeline; below it what is not there, with the declared reason."""
    lines = [
        f"| | invariant | {' | '.join(report.pipeline for report in reports)} |",
        f"| --- | --- |{' --- |' * len(reports)}",
    ]
    group = ""
    for results in zip(*(report.results for report in reports), strict=True):
        check = results[0].check
        shown = check.group if check.group != group else ""
        group = check.group
        statement = check.statement.replace("|", "\\|")
        lines.append(f"| {shown} | {statement} | {' | '.join(MARKS[result.outcome] for result in results)} |")
    counts = [
        f"{sum(one.outcome is Outcome.PASSED for one in report.results)}/{len(report.results)}" for report in reports
    ]
    lines.append(f"| | passed | {' | '.join(counts)} |")
    reasons: dict[str, None] = {}
    for report in reports:
        for result in report.results:
            if result.reason:
                reasons[f"- {report.pipeline}: {result.outcome.value}: {result.reason}"] = None
    return "\n".join([*lines, *(["", *reasons] if reasons else [])])


def write(file: Path, made: str) -> None:
    """Put a table between the marks of a file.

    Raises:
        InputError: the file has no such marks.
    """
    text = file.read_text(encoding="utf-8")
    marks = re.compile(r"(<!-- conformance -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marks.search(text):
        raise InputError(
            f"{file} has no place for the table: <!-- conformance --> and <!-- end --> on lines of their own"
        )
    file.write_text(marks.sub(lambda found: f"{found[1]}{made}\n{found[2]}", text, count=1), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the named pipelines, or all that are installed, and print the table; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m vace_adapt_conformance.table", description="Checks x pipelines.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--write", metavar="FILE", type=Path)
    chosen = parser.parse_args(arguments)
    import torch

    from vace_adapt.loading import discover
    from vace_adapt_conformance.runner import run
    from vace_adapt_conformance.subject import open_subject

    torch.set_num_threads(1)
    asked = [name.split() for name in chosen.names or sorted(discover())]
    reports = [run(open_subject(name, overrides=overrides)) for name, *overrides in asked]
    made = table(reports)
    print(made)
    if chosen.write is not None:
        write(chosen.write, made)
    return 0 if all(report.passed for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
