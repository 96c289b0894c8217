"""Factors over chunks and denoise steps."""

from __future__ import annotations

import pytest
import torch
from levels import equal
from pydantic import ValidationError

from vace_adapt.controls import ControlSettings
from vace_adapt.errors import SessionError, SettingsError
from vace_adapt.scale import HintScale, Schedule
from vace_adapt.validation import validated

from .conftest import FRAMES, LAYERS, STEPS, chunk_context, randn, references


def test_without_points_the_factor_is_one():
    assert {Schedule().at(chunk, step) for chunk in (0, 1, 1000) for step in range(4)} == {1.0}


def test_ramps():
    """Linear between the points, constant outside."""
    ramp = Schedule(chunks=((2, 1.0), (6, 0.0), (8, 0.5)))
    assert [ramp.at(chunk, 0) for chunk in range(11)] == [1, 1, 1, 0.75, 0.5, 0.25, 0, 0.25, 0.5, 0.5, 0.5]
    jump = Schedule(chunks=((4, 0.3), (5, 0.7)))
    assert [jump.at(chunk, 0) for chunk in (0, 4, 5, 9)] == [0.3, 0.3, 0.7, 0.7]
    assert Schedule(steps=((1, 0.5), (3, 1.5))).at(7, 2) == 1.0
    assert Schedule(chunks=((3, 0.5),), steps=((1, 3.0),)).at(0, 0) == 1.5


@pytest.mark.parametrize(
    ("window", "active"),
    [
        ({}, [1, 1, 1, 1]),
        ({"start_step": 1}, [0, 1, 1, 1]),
        ({"end_step": 1}, [1, 0, 0, 0]),
        ({"start_step": 1, "end_step": 3}, [0, 1, 1, 0]),
    ],
)
def test_step_windows(window, active):
    assert [Schedule(**window).at(0, step) for step in range(4)] == active
    faded = Schedule(steps=((0, 1.0), (3, 0.25)), **window)
    assert [faded.at(0, step) for step in range(4)] == [
        a * f for a, f in zip(active, (1, 0.75, 0.5, 0.25), strict=True)
    ]


@pytest.mark.parametrize(
    ("given", "last"),
    [({}, 0), ({"start_step": 2}, 2), ({"end_step": 3}, 2), ({"end_step": 1, "steps": [(0, 1), (5, 0)]}, 5)],
)
def test_the_last_step_that_is_spoken_of(given, last):
    assert Schedule(**given).last_step == last


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"chunks": [(3, 1.0), (1, 0.5)]}, r"numbers of chunks must ascend from 0 or more, not \[3, 1\]"),
        ({"steps": [(0, 1.0), (0, 0.5)]}, r"numbers of steps must ascend from 0 or more, not \[0, 0\]"),
        ({"chunks": [(-1, 1.0)]}, r"numbers of chunks must ascend from 0 or more, not \[-1\]"),
        ({"chunks": [(0, 101.0)]}, "a scale must be within 0..100, not 101.0"),
        ({"steps": [(0, float("nan"))]}, "a scale must be within 0..100, not nan"),
        ({"start_step": 2, "end_step": 2}, "end_step must be over start_step 2, not 2"),
        ({"start_step": -1}, "greater than or equal to 0"),
        ({"chunks": [(0.5, 1.0)]}, "should be a valid integer"),
        ({"chunks": [(0,)]}, "Field required"),
    ],
)
def test_schedules_that_make_no_sense(given, text):
    with pytest.raises(ValidationError, match=text):
        Schedule(**given)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"end_step": 0}, "end_step: must be greater than or equal to 1, not 0"),
        ({"start_step": 3, "end_step": 2}, "end_step must be over start_step 3, not 2"),
        ({"chunks": [[2, 1.0], [1, 0.5]]}, "chunks: numbers of chunks must ascend from 0 or more, not [2, 1]"),
        ({"steps": [[0, "much"]]}, "steps.0.1: must be a valid number, unable to parse string as a number, not 'much'"),
        ({"steps": 0.5}, "steps: must be a list, not 0.5"),
        ({"step": []}, "step: unknown key; did you mean 'steps'?"),
    ],
)
def test_a_mistake_in_a_configuration_is_one_line(given, line):
    with pytest.raises(SettingsError) as caught:
        validated(ControlSettings, {"scale": {"control_schedule": given}}, "controls")
    assert (
        str(caught.value).replace("control_schedule: ", "control_schedule.")
        == f"controls.scale.control_schedule.{line}"
    )


def test_a_configuration_is_a_schedule():
    scale = {"control_schedule": {"chunks": [[0, 1], [10, 0.2]], "end_step": 3}}
    settings = validated(ControlSettings, {"scale": scale}, "controls")
    assert settings.scale.control_schedule == Schedule(chunks=((0, 1.0), (10, 0.2)), end_step=3)


# --- in the context path ---------------------------------------------------------------------------------------------


def chunk(tiny, number=0, *, count=0, factors=None, **scale):
    """Hints of every denoise step of a chunk, and of its clean pass."""
    context = tiny.context(**scale)
    context.set_references(references(count) if count else None)
    latents, nothing, given = (randn(1, c, FRAMES, 4, 6, seed=s) for c, s in ((16, 1), (96, 2), (96, 3)))
    made = chunk_context(context, given, nothing, chunk=number, control_factors=factors)
    sources = [made.source(step, 0.7) for step in (*range(STEPS), -1)]
    return [{} if source is None else tiny.run(latents, source)[1] for source in sources]


@pytest.mark.parametrize("number", range(4))
def test_a_chunk_has_its_factor(tiny, number):
    ramp = Schedule(chunks=((0, 1.0), (2, 0.5)))
    found = chunk(tiny, number, count=1, control=0.8, control_schedule=ramp, references_schedule=ramp)
    factor = (1.0, 0.75, 0.5, 0.5)[number]
    expected = chunk(tiny, count=1, control=0.8 * factor, references=factor)
    assert all(equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_step_has_its_factor_and_the_clean_pass_that_of_the_last(tiny):
    found = chunk(tiny, control_schedule=Schedule(steps=((0, 1.0), (3, 0.25))))
    plain = chunk(tiny)
    for hints, full, factor in zip(found, plain, (1.0, 0.75, 0.5, 0.25, 0.25), strict=True):
        assert all(torch.equal(hints[layer], full[layer] * factor) for layer in LAYERS)


def test_steps_outside_the_window_run_no_context_block(tiny, runs):
    found = chunk(tiny, control_schedule=Schedule(start_step=1, end_step=3))
    assert [bool(hints) for hints in found] == [False, True, True, False, False]
    assert len(runs) == 2 * len(LAYERS)


def test_control_and_references_have_windows_of_their_own(tiny):
    early, late = Schedule(end_step=2), Schedule(start_step=2)
    found = chunk(tiny, count=1, control_schedule=late, references_schedule=early)
    references_alone, control_alone = chunk(tiny, count=1, control=0.0), chunk(tiny)
    assert all(equal(a, b) for a, b in zip(found[:2], references_alone[:2], strict=True))
    assert all(equal(a, b) for a, b in zip(found[2:], control_alone[2:], strict=True))


def test_a_control_is_heard_where_schedule_and_map_meet(tiny):
    maps = torch.zeros(STEPS, 1, FRAMES, 2, 3)
    maps[0] = 1
    late = Schedule(start_step=1)
    assert chunk(tiny, factors=maps, control_schedule=late) == [{}] * (STEPS + 1)
    scales = tiny.context(control_schedule=late).control_scales(0, (1, FRAMES), maps)
    assert not any(scale.any() for scale in scales)


def test_a_step_that_was_not_declared(tiny):
    made = chunk_context(tiny.context(), randn(1, 96, FRAMES, 4, 6))
    with pytest.raises(SessionError, match="denoise step 4 was not declared: parts.steps is 4"):
        made.source(STEPS, 0.7)


def test_a_silent_scale_stays_silent():
    silent = HintScale(layers=(0.0, 0.0), control_schedule=Schedule(steps=((0, 2.0),)))
    assert (silent.control_at(0, 0), silent.references_at(0, 0)) == (0.0, 0.0)
