"""Backend wan holds what every pipeline must hold."""

from __future__ import annotations

import pytest

from vace_adapt_conformance import Outcome, all_checks, open_subject
from vace_adapt_conformance.runner import run_check

ELSEWHERE = {"bank", "clean_pass", "relative_rope", "stream_batch", "reference_slots", "reanchor", "lora"}
"""What a packed history does not have."""


@pytest.fixture(scope="module")
def subject():
    return open_subject("framepack")


@pytest.mark.parametrize("check", list(all_checks()), ids=lambda check: check.name)
def test_conformance(subject, check):
    result = run_check(check, subject)
    assert not result.bad, result.reason
    assert (result.outcome is Outcome.UNSUPPORTED) == bool(ELSEWHERE & set(check.needs))
