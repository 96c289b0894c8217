"""The checks as tests: ``python -m pytest --pyargs vace_adapt_conformance --pipeline NAME``, or with settings behind
the name: ``--pipeline 'NAME key=value'``.
"""

from __future__ import annotations

from typing import Any

import pytest

from vace_adapt_conformance.check import Check, Outcome
from vace_adapt_conformance.runner import run_check
from vace_adapt_conformance.subject import open_subject, purpose


def test_every_hook_is_written(pipeline: str, conformance_subjects: dict[str, Any]) -> None:
    subject = _subject(pipeline, conformance_subjects)
    missing = [f"{hook} {reason}: {purpose(hook)}" for hook, reason in subject.missing.items()]
    if missing:
        pytest.fail("\n".join(missing), pytrace=False)


def test_check(pipeline: str, check: Check, conformance_subjects: dict[str, Any]) -> None:
    result = run_check(check, _subject(pipeline, conformance_subjects))
    if result.bad:
        pytest.fail(f"{check.statement}\n{result.reason}", pytrace=False)
    if result.outcome is Outcome.NOT_IMPLEMENTED:
        pytest.xfail(result.reason)
    if result.outcome is Outcome.UNSUPPORTED:
        pytest.skip(result.reason)


def _subject(name: str, opened: dict[str, Any]) -> Any:
    if name not in opened:
        pipeline, *overrides = name.split()
        opened[name] = open_subject(pipeline, overrides=overrides)
    return opened[name]
