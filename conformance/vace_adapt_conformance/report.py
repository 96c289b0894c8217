"""What the checks found, as text, JSON and HTML."""

from __future__ import annotations

import html
import importlib.metadata
import platform
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

from vace_adapt.hookspecs import HOOK_API
from vace_adapt_conformance.check import GROUPS, Outcome, Result

MARKS = {
    Outcome.PASSED: "ok",
    Outcome.FAILED: "FAILED",
    Outcome.UNSUPPORTED: "-",
    Outcome.NOT_IMPLEMENTED: "todo",
    Outcome.MISSING: "missing",
}


@dataclass(frozen=True)
class Report:
    """The outcome of every check on one plugin.

    Attributes:
        pipeline: its name, and what is not the default of its settings.
        distribution: its name and version.
        missing: required hooks that are not written yet, one line each.
        results: in the order of the groups.
    """

    pipeline: str
    distribution: str
    missing: tuple[str, ...]
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed and nothing is missing."""
        return not self.missing and not any(result.bad for result in self.results)

    def summary(self) -> str:
        """How many of each outcome, in one line."""
        counts = Counter(result.outcome for result in self.results)
        parts = [f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome]]
        seconds = sum(result.seconds for result in self.results)
        return f"{self.pipeline}: {', '.join(parts)} of {len(self.results)} checks in {seconds:.1f} s"

    def text(self) -> str:
        """The table for a terminal: one line for each check, reasons beside what did not pass."""
        lines = [f"{self.pipeline} ({self.distribution})", ""]
        width = max(len(result.check.name) for result in self.results)
        for group in GROUPS:
            lines.append(group)
            for result in (result for result in self.results if result.check.group == group):
                said = result.check.statement if result.outcome is Outcome.PASSED else result.reason
                lines.append(f"  {MARKS[result.outcome]:<8} {result.check.name:<{width}}  {said}")
        if self.missing:
            lines += ["", "hooks still to write", *(f"  {line}" for line in self.missing)]
        return "\n".join([*lines, "", self.summary()])

    def plain(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return {
            "pipeline": self.pipeline,
            "distribution": self.distribution,
            "passed": self.passed,
            "versions": versions(),
            "missing": list(self.missing),
            "checks": [
                {
                    "group": result.check.group,
                    "name": result.check.name,
                    "statement": result.check.statement,
                    "needs": list(result.check.needs),
                    "outcome": result.outcome.value,
                    "reason": result.reason,
                    "seconds": round(result.seconds, 4),
                }
                for result in self.results
            ],
        }

    def html(self) -> str:
        """One page without scripts."""
        rows = []
        for group in GROUPS:
            rows.append(f'<tr><th colspan="3">{group}</th></tr>')
            for result in (result for result in self.results if result.check.group == group):
                kind = result.outcome.name.lower()
                said = html.escape(result.check.statement)
                reason = f"<br><b>{html.escape(result.reason)}</b>" if result.reason else ""
                rows.append(
                    f'<tr class="{kind}"><td>{result.outcome.value}</td><td>{result.check.name}</td>'
                    f"<td>{said}{reason}</td></tr>"
                )
        missing = "".join(f"<li>{html.escape(line)}</li>" for line in self.missing)
        about = ", ".join(f"{name} {version}" for name, version in versions().items())
        return _PAGE.format(
            title=html.escape(f"{self.pipeline} ({self.distribution})"),
            summary=html.escape(self.summary()),
            missing=f"<h2>Hooks still to write</h2><ul>{missing}</ul>" if missing else "",
            rows="\n".join(rows),
            about=html.escape(about),
        )


def versions() -> dict[str, str]:
    """What the checks ran on."""
    return {
        "vace-adapt": importlib.metadata.version("vace-adapt"),
        "HOOK_API": str(HOOK_API),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.4 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ border-bottom: 1px solid #ddd; padding: 4px 8px; text-align: left; vertical-align: top; }}
th {{ padding-top: 1em; }}
.passed td:first-child {{ color: #176117; }}
.failed td:first-child, .missing td:first-child {{ color: #b00020; font-weight: bold; }}
.unsupported, .not_implemented {{ color: #777; }}
</style>
<h1>{title}</h1><p>{summary}</p>{missing}
<table>
{rows}
</table><p>{about}</p></html>
"""
