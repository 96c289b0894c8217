"""Every setting and layout holds what every pipeline must hold; the live model is a stand-in of the official calling
convention.
"""

from __future__ import annotations

import pytest
from sd_official_shape import OfficialShaped

from vace_adapt_conformance import Outcome, all_checks, open_subject
from vace_adapt_conformance.runner import run_check

OFFICIAL = {"layout": "official", "live": lambda parts: OfficialShaped(parts.model).eval()}

VARIANTS = {
    "stream batch": {},
    "one after another": {"overrides": ["stream_batch=false"]},
    "a sink for good": {"overrides": ["stream_batch=false", "sink_threshold=-1"]},
    "official quirks": {"overrides": ["official_quirks=true"]},
    "official": {"overrides": ["official_quirks=true", "position_refresh=official"], **OFFICIAL},
}
NOWHERE = {"clean_pass", "bank"}
ELSEWHERE = {
    "one after another": {"stream_batch"},
    "a sink for good": {"stream_batch"},
    "official": {"reference_slots"},
}
"""Capabilities that a variant does not have."""


@pytest.fixture(scope="module")
def subjects():
    return {}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("check", list(all_checks()), ids=lambda check: check.name)
def test_conformance(subjects, variant, check):
    if variant not in subjects:
        subjects[variant] = open_subject("streamdiffusion", **VARIANTS[variant])
    result = run_check(check, subjects[variant])
    assert not result.bad, result.reason
    absent = NOWHERE | ELSEWHERE.get(variant, set())
    assert (result.outcome is Outcome.UNSUPPORTED) == bool(absent & set(check.needs))


def test_what_the_official_code_does_by_accident_is_told_by_the_suite():
    """One after another, each chunk after the memory is full overwrites the slot of the one before it."""
    subject = open_subject("streamdiffusion", overrides=["stream_batch=false", "official_quirks=true"])
    checks = {check.name: check for check in all_checks()}
    twice = run_check(checks["positions_are_the_frames_held"], subject)
    assert twice.reason == "after chunk 4 a latent frame is held twice: [0, 1, 5, 3, 4, 5]"
    assert run_check(checks["the_oldest_leaves_first"], subject).outcome is Outcome.FAILED
