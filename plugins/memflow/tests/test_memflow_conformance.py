"""Both layouts, and settings that change what is remembered, hold what every pipeline must hold; the live model is a
stand-in of the official calling convention.
"""

from __future__ import annotations

import pytest
from memflow_shape import MemFlowShaped

from vace_adapt_conformance import Outcome, all_checks, open_subject
from vace_adapt_conformance.runner import run_check
from vace_adapt_memflow import official_cache

ELSEWHERE = {"native": {"stream_batch"}, "official": {"stream_batch", "reference_slots", "reanchor"}}
"""Capabilities that a layout does not have, by layout."""

CHANGED = {
    "sparse": ("sparse=true", "record_interval=1"),
    "single": ("memory=single", "official_quirks=false"),
}
"""Settings by what they change."""

CHECKS = list(all_checks())
REMEMBERING = [check for check in CHECKS if check.group in ("attention", "cache", "bank")]


def live(parts):
    """A live model with the tiny pipeline's weights."""
    settings = parts.settings
    return MemFlowShaped(parts.model, settings.sink, settings.window, settings.bank, settings.record_interval).eval()


@pytest.fixture(autouse=True)
def _small_frames(monkeypatch):
    """The official number is a literal of the official attention; the stand-in takes any."""
    monkeypatch.setattr(official_cache, "FRAME_TOKENS", 6)


@pytest.fixture(scope="module")
def subjects():
    return {
        "native": open_subject("memflow"),
        "official": open_subject("memflow", layout="official", live=live),
        **{name: open_subject("memflow", overrides=overrides) for name, overrides in CHANGED.items()},
    }


@pytest.mark.parametrize("layout", ELSEWHERE)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_conformance(subjects, layout, check):
    result = run_check(check, subjects[layout])
    assert not result.bad, result.reason
    assert (result.outcome is Outcome.UNSUPPORTED) == bool(ELSEWHERE[layout] & set(check.needs))


@pytest.mark.parametrize("changed", CHANGED)
@pytest.mark.parametrize("check", REMEMBERING, ids=lambda check: check.name)
def test_conformance_under_other_settings(subjects, changed, check):
    result = run_check(check, subjects[changed])
    assert result.outcome is Outcome.PASSED, result.reason
