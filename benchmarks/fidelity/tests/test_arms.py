"""Streams without hints: made once where the prompt alone acts, and on their own where something else does."""

from __future__ import annotations

import arms
import numpy as np
import pytest
from arms import Arm, stream
from cases import CASES

FRAMES = 21


def by(name, case, hints):
    """What a stream is given, and what it makes, with nothing remembered."""
    given = case.give(case.clip(0, FRAMES))
    return given, stream(arms._pipeline(name, ()), given, 0, FRAMES, hints)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("longlive", "depth"),
        ("longlive", "reference + depth"),
        ("framepack", "depth"),
        ("streamdiffusion", "depth"),
        ("longlive", "inpaint, kept"),
    ],
)
def test_what_is_remembered_is_what_would_be_made(name, case):
    given, made = by(name, CASES[case], hints=False)
    arm = Arm("", hints=False, pipeline=name)
    for _ in range(2):
        assert np.array_equal(arm.frames(CASES[case], given, 0, 0, FRAMES), made)


def test_with_hints_a_stream_is_another():
    given, made = by("longlive", CASES["depth"], hints=True)
    bare = Arm("", hints=False, pipeline="longlive").frames(CASES["depth"], given, 0, 0, FRAMES)
    assert not np.array_equal(made, bare)


def test_only_what_the_prompt_alone_makes_is_remembered():
    arms._prompted.cache_clear()
    for name, case, remembered in (
        ("streamdiffusion", "depth", 0),
        ("longlive", "first frame", 0),
        ("longlive", "depth", 1),
    ):
        given = CASES[case].give(CASES[case].clip(0, FRAMES))
        Arm("", hints=False, pipeline=name).frames(CASES[case], given, 0, 0, FRAMES)
        assert arms._prompted.cache_info().currsize == remembered
