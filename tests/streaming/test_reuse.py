"""`controls.hint_reuse` on a stream."""

from __future__ import annotations

import pytest
from reuse import PLANS, recorded, replayed
from support import distance, frames, opened, picture, same, stream

from vace_adapt import ControlSettings, HintScale
from vace_adapt.errors import SettingsError


@pytest.mark.parametrize("plan", PLANS)
def test_a_stream_with_reuse_is_the_stream_whose_hints_are_replayed(pipe, plan):
    options, steps = PLANS[plan]
    assert same(recorded(pipe, options), replayed(pipe, options, steps))


@pytest.mark.parametrize(("every", "steps"), [(1, 4), (2, 2), (3, 2), (4, 1), (9, 1)])
def test_context_passes_are_saved(pipe, runs, every, steps):
    stream(pipe, 3, controls={"hint_reuse": every})
    assert len(runs) == 3 * steps * len(pipe.context.layers)


def test_one_is_as_without_and_two_is_not(pipe):
    plain = stream(pipe, 2, references=[picture()])
    assert same(stream(pipe, 2, references=[picture()], controls={"hint_reuse": 1}), plain)
    assert distance(stream(pipe, 2, references=[picture()], controls={"hint_reuse": 2}), plain) > 1e-3


def test_it_may_change_between_chunks(pipe, runs):
    counts = []
    with opened(pipe, controls={"hint_reuse": 4}) as session:
        session.feed(frames(33))
        for every in (4, 1, 2):
            session.update(controls={"hint_reuse": every})
            runs.clear()
            next(session)
            counts.append(len(runs) // len(pipe.context.layers))
    assert counts == [1, 4, 2]


def test_at_scale_zero_the_context_path_does_not_run(pipe, base, runs):
    silent = stream(pipe, 2, scale=0.0, references=[picture()], controls={"hint_reuse": 2})
    assert same(silent, stream(base, 2, control=False))
    assert not runs


def test_what_is_held_is_one_set_and_does_not_grow(pipe):
    held = {}
    for every in (1, 2):
        with opened(pipe, controls={"hint_reuse": every}) as session:
            session.feed(frames(45), last=True)
            held[every] = {chunk.report.cache_bytes for chunk in session}
    (without,), (reusing,) = held.values()
    hint = 3 * 2 * 3 * pipe.parts.backbone.dim * 4
    assert reusing - without == hint * len(pipe.context.layers)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (0, "controls.hint_reuse: must be greater than or equal to 1, not 0"),
        (1.5, "controls.hint_reuse: must be a valid integer, got a number with a fractional part, not 1.5"),
    ],
)
def test_numbers_that_make_no_sense(pipe, given, text):
    with pytest.raises(SettingsError) as caught:
        opened(pipe, controls={"hint_reuse": given})
    assert str(caught.value) == text
    with opened(pipe) as session:
        with pytest.raises(SettingsError):
            session.update(controls={"hint_reuse": given})
        session.feed(frames(9))
        assert next(session).report.controlled


def test_the_default_reuses_nothing():
    assert ControlSettings().hint_reuse == 1
    assert HintScale() == ControlSettings().scale
