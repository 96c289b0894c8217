"""Both layouts hold what every pipeline must hold; the live model is a stand-in of the official calling convention."""

from __future__ import annotations

import pytest
from official_shape import OfficialShaped

from vace_adapt_conformance import Outcome, all_checks, open_subject
from vace_adapt_conformance.runner import run_check

ELSEWHERE = {
    "native": {"bank", "stream_batch"},
    "official": {"bank", "stream_batch", "reference_slots"},
}
"""Capabilities that a layout does not have, by layout."""


def live(parts):
    """A live model with the tiny pipeline's weights."""
    return OfficialShaped(parts.model, parts.settings.sink).eval()


@pytest.fixture(scope="module")
def subjects():
    return {"native": open_subject("longlive"), "official": open_subject("longlive", layout="official", live=live)}


@pytest.mark.parametrize("layout", ELSEWHERE)
@pytest.mark.parametrize("check", list(all_checks()), ids=lambda check: check.name)
def test_conformance(subjects, layout, check):
    result = run_check(check, subjects[layout])
    assert not result.bad, result.reason
    assert (result.outcome is Outcome.UNSUPPORTED) == bool(ELSEWHERE[layout] & set(check.needs))
