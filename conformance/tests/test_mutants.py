"""Every check can fail: for each there is a mutant of a reference pipeline that it, and no other check of its group,
catches.
"""

from __future__ import annotations

import batched_mutants
import mutants
import pytest
import torch

from vace_adapt_conformance import Outcome, all_checks
from vace_adapt_conformance.runner import run_check

CHECKS = {check.name: check for check in all_checks()}


def test_every_check_has_a_mutant():
    assert [name for name in CHECKS if not callable(getattr(broken(name), name, None))] == []


def broken(name):
    """Where the mutant of a check is."""
    return batched_mutants if CHECKS[name].group == "stream batch" else mutants


@pytest.mark.parametrize("name", CHECKS)
def test_only_its_check_catches_a_mutant(name, monkeypatch, tmp_path):
    bench = broken(name).Bench(monkeypatch, tmp_path)
    getattr(broken(name), name)(bench)
    group = [check for check in CHECKS.values() if check.group == CHECKS[name].group]
    subject = bench.subject()
    with torch.random.fork_rng(devices=[]):
        results = [run_check(check, subject) for check in group]
    failed = {result.check.name: result.reason for result in results if result.outcome is Outcome.FAILED}
    assert list(failed) == [name], failed
    assert "\n" not in failed[name]
    assert all(result.outcome is not Outcome.MISSING for result in results) or name == "plugin_loads"
