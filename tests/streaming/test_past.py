"""`controls.context_frames` on a stream."""

from __future__ import annotations

import history
import oracles
import pytest
from support import frames, opened, picture, same, stream

from vace_adapt import load_pipeline
from vace_adapt.context.blocks import ContextBlock
from vace_adapt.errors import SettingsError


@pytest.fixture(scope="module")
def short():
    """Chunks of one latent frame, which have no neighbours in time but those of the past."""
    return load_pipeline("longlive", seed=0, settings={"chunk_latents": 1}, device="cpu", dtype="float32")


@pytest.fixture
def rows(monkeypatch):
    """Rows of every call of a context block."""
    seen = []
    real = ContextBlock.forward
    monkeypatch.setattr(ContextBlock, "forward", lambda self, x, *args: seen.append(x.shape[1]) or real(self, x, *args))
    return seen


@pytest.fixture(params=["pipe", "short"])
def either(request):
    return request.getfixturevalue(request.param)


def made(pipe, count, chunks=4, **controls):
    with opened(pipe, references=[picture()], controls={"context_frames": count, **controls}) as session:
        session.feed(frames(session.shapes.time.pixel_start(chunks)), last=True)
        return [chunk.latents.clone() for chunk in session]


def test_the_past_is_what_was_given_and_made(either):
    history.the_past_is_what_was_given_and_made(either)


def test_streams_do_not_meet(pipe):
    history.streams_with_a_past_do_not_meet(pipe)


def test_rows_of_a_batch_have_their_own(pipe):
    history.rows_of_a_batch_have_their_own_past(pipe)


@pytest.mark.parametrize("form", ["joint", "cached"])
def test_the_first_chunk_has_none_and_those_behind_it_feel_theirs(either, form):
    without, with_past = (made(either, count, reference_form=form) for count in (0, 2))
    assert same(with_past[:1], without[:1])
    assert not any(same([a], [b]) for a, b in zip(with_past[1:], without[1:], strict=True))


def test_no_more_frames_than_there_are(pipe):
    first, long, longer, shorter = (made(pipe, count, chunks=3) for count in (6, 9, 100, 5))
    assert same(first, long)
    assert same(first, longer)
    assert same(first[:2], shorter[:2])
    assert not same(first, shorter)


@pytest.mark.parametrize("form", ["joint", "cached"])
def test_rows_of_a_pass(short, rows, form):
    """Those of the past grow until there are enough; of references only the first chunk's passes have any (cached)."""
    made(short, 2, chunks=5, reference_form=form)
    tokens, per_chunk = 6, 4 * len(short.context.layers)
    own = [tokens * (1 + before) for before in (0, 1, 2, 2, 2)]
    if form == "cached":
        assert sorted(rows) == sorted([tokens] * per_chunk + [count for count in own for _ in range(per_chunk)])
    else:
        assert rows == [count + tokens for count in own for _ in range(per_chunk)]


def test_without_control_and_references_it_is_the_base(pipe, base):
    controls = {"context_frames": 3}
    expected = stream(base, 3, control=False)
    assert same(stream(pipe, 3, control=False, controls=controls), expected)
    assert same(stream(pipe, 3, scale=0.0, references=[picture()], controls=controls), expected)


def test_clean_passes_with_hints_have_it_as_well(pipe):
    with_hints = made(pipe, 3, kv_policy="with_hints")
    assert same(with_hints[:1], made(pipe, 3)[:1])
    assert not same(with_hints, made(pipe, 0, kv_policy="with_hints"))


def test_buffers_are_fixed_and_counted(pipe):
    held = {}
    for count in (0, 2, 7):
        with opened(pipe, controls={"context_frames": count}) as session:
            session.feed(frames(45), last=True)
            held[count] = {chunk.report.cache_bytes for chunk in session}
    (none,), (two,), (seven,) = held.values()
    frame = (96 + 16 + 16) * 4 * 6 * 4
    assert two - none == 2 * frame
    assert seven - none == 7 * frame


def test_nothing_grows(pipe):
    oracles.nothing_grows(pipe, chunks=12, settled=8, controls={"context_frames": 5, "hint_reuse": 2})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"context_frames": -1}, "controls.context_frames: must be greater than or equal to 0, not -1"),
        (
            {"context_frames": 2, "reference_form": "references_only"},
            "controls: context_frames 2 has no rows in reference_form=references_only: use cached or joint",
        ),
    ],
)
def test_numbers_that_make_no_sense(pipe, given, text):
    with pytest.raises(SettingsError) as caught:
        opened(pipe, controls=given)
    assert str(caught.value) == text
    opened(pipe, controls={"context_frames": 0, "reference_form": "references_only"}).close()


def test_it_holds_for_a_whole_stream(pipe):
    with opened(pipe) as session:
        with pytest.raises(SettingsError, match=r"controls\.context_frames cannot change inside a stream"):
            session.update(controls={"context_frames": 1})
        session.feed(frames(9))
        assert next(session).report.controlled
