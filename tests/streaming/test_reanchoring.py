"""Re-anchoring: what the memory becomes, when, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import reanchoring
import torch
from reanchoring import ABOVE
from support import HEIGHT, WIDTH, opened, picture

from vace_adapt import ControlSettings, load_pipeline
from vace_adapt.composition.anchors import Anchored
from vace_adapt.contract import Capability, Support
from vace_adapt.errors import InputError, SessionError, SettingsError, Unsupported
from vace_adapt.streaming import reanchoring as core


@pytest.fixture(scope="module")
def relative():
    return load_pipeline("longlive", seed=0, settings={"rope": "relative"}, device="cpu", dtype="float32")


# --- what the memory becomes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["sink", "first"])
def test_the_memory_is_a_fresh_one(pipe, source):
    reanchoring.the_memory_is_a_fresh_one(pipe, {"every": 1, "source": source})


def test_the_memory_is_a_fresh_one_with_relative_positions(relative):
    reanchoring.the_memory_is_a_fresh_one(relative, {"every": 1, "source": "first"})


def test_the_memory_of_every_row_is_a_fresh_one(pipe):
    reanchoring.the_memory_is_a_fresh_one(pipe, {"above": ABOVE, "source": "sink"}, seed=[0, 1])


def test_the_sink_is_the_newest(pipe):
    reanchoring.the_sink_is_the_newest(pipe, seed=[0, 1])


def test_the_sink_is_the_newest_keyframe(pipe):
    reanchoring.the_sink_is_the_newest_keyframe(pipe)


def test_the_stream_is_pulled_back(pipe):
    reanchoring.the_stream_is_pulled_back(pipe, seed=[0, 1])


def test_a_later_recache_starts_from_it(pipe):
    reanchoring.a_later_recache_starts_from_it(pipe)


def test_every_source_in_memories_of_other_sizes():
    """Chunks that are shorter than the sink, and a window that never slides."""
    for settings in ({"chunk_latents": 1, "window": 6, "sink": 2}, {"window": -1, "max_latents": 30}):
        pipe = load_pipeline("longlive", seed=0, settings=settings, device="cpu")
        for source in ("sink", "keyframe", "first"):
            with opened(pipe, controls={"reanchor": {"every": 1, "source": source}}) as session:
                session.keyframe(picture(0, HEIGHT, WIDTH), frame=0)
                for _ in range(8):
                    chunk = next(session)
                    assert torch.isfinite(chunk.latents).all()
                    held = [frame for frame in session.cache.positions() if frame >= 0]
                    assert len(set(held)) == len(held)
                assert chunk.report.reanchored


# --- when -------------------------------------------------------------------------------------------------------------


def test_it_comes_when_it_is_due(pipe):
    reanchoring.it_comes_when_it_is_due(pipe)


def test_off_is_as_before(pipe):
    reanchoring.off_is_as_before(pipe)


def test_rows_do_not_meet(pipe):
    reanchoring.rows_do_not_meet(pipe)


def test_a_row_that_is_not_named_keeps_every_bit(pipe):
    reanchoring.a_row_that_is_not_named_keeps_every_bit(pipe)


def test_streams_do_not_meet(pipe):
    """Two streams, one of them re-anchored, chunk by chunk in turn."""
    rule = {"every": 2, "source": "first"}
    alone = [reanchoring.seen(pipe, 5, rule, seed=0).chunks, list(_taken(opened(pipe, seed=1), 5))]
    with opened(pipe, seed=0, controls={"reanchor": rule}) as a, opened(pipe, seed=1) as b:
        for index in range(5):
            assert torch.equal(next(a).latents, alone[0][index].latents)
            assert torch.equal(next(b).latents, alone[1][index].latents)


def _taken(session, count):
    with session:
        for _ in range(count):
            yield next(session)


def test_nothing_grows(pipe):
    reanchoring.nothing_grows(pipe)


def test_its_buffers_are_in_the_report(pipe):
    found = []
    for controls in ({}, {"reanchor": {"every": 9, "source": "sink"}}):
        with opened(pipe, controls=controls) as session:
            found.append(next(session).report.cache_bytes)
    assert found[1] - found[0] == 4 * 16 * (12 + 3) * (HEIGHT // 8) * (WIDTH // 8)


# --- which keyframe ---------------------------------------------------------------------------------------------------


def anchored(kept: list[bool], filled: list[bool], rows: int = 1) -> Anchored:
    """Frame t of brightness t/8, of which `kept` says whether it is kept whole."""
    count = len(kept)
    levels = torch.arange(count).view(1, count, 1, 1, 1) / 8
    pictures = levels.expand(rows, count, 4, 4, 3).clone()
    mask = torch.zeros(rows, count, 4, 4)
    mask[-1, [not whole for whole in kept], 0, 0] = 1
    return Anchored(pictures, mask, torch.tensor([True] * count), torch.tensor(filled))


@pytest.mark.parametrize(
    ("kept", "filled", "frame"),
    [
        ([True] * 4, [False] * 4, 3),
        ([True] * 4, [False, False, True, True], 1),
        ([True, True, True, False], [False] * 4, 2),
        ([False] * 4, [False] * 4, None),
    ],
)
@pytest.mark.parametrize("rows", [1, 2])
def test_the_newest_picture_that_is_kept_whole(kept, filled, frame, rows):
    found = core._newest_whole(anchored(kept, filled, rows))
    assert (found is None) == (frame is None)
    assert found is None or (found.shape == (rows, 3, 4, 4) and (found == frame / 4 - 1).all())


def test_a_keyframe_to_come_does_not_count_yet(pipe):
    with opened(pipe, num_frames=33, controls={"reanchor": {"every": 1, "source": "keyframe"}}) as session:
        session.keyframe(picture(1, HEIGHT, WIDTH), end=-1)
        next(session)
        text = (
            "chunk 1 is to be re-anchored on a keyframe, and up to its last frame, 20, there is none that is kept "
            r"whole: give one, e.g. stream.keyframe\(picture, chunks=1\)"
        )
        kept, positions = {n: t.clone() for n, t in session.cache.tensors().items()}, session.cache.positions()
        for _ in range(2):
            with pytest.raises(InputError, match=f"^{text}$"):
                next(session)
        half = np.zeros((1, HEIGHT, WIDTH), np.uint8)
        half[:, :5] = 255
        session.keyframe(picture(2, HEIGHT, WIDTH), half, frame=11)
        with pytest.raises(InputError, match=text):
            next(session)
        assert all(torch.equal(t, kept[n]) for n, t in session.cache.tensors().items()), "nothing has changed"
        assert session.cache.positions() == positions
        session.keyframe(picture(3, HEIGHT, WIDTH), chunks=1)
        assert [chunk.report.reanchored for chunk in session] == [True, True]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reanchor", "text"),
    [
        ({"source": "sink"}, "controls.reanchor: needs every (a number of chunks), above (a bound on the drift), or both"),
        ({"every": 2}, "controls.reanchor.source: is missing"),
        ({"every": 0, "source": "sink"}, "controls.reanchor.every: must be greater than or equal to 1, not 0"),
        ({"every": 1.5, "source": "sink"}, "controls.reanchor.every: must be a valid integer, got a number with a fractional part, not 1.5"),
        ({"above": 0, "source": "sink"}, "controls.reanchor.above: must be greater than 0, not 0"),
        ({"above": float("nan"), "source": "sink"}, "controls.reanchor.above: must be a finite number, not nan"),
        ({"every": 1, "source": "last"}, "controls.reanchor.source: must be 'sink', 'keyframe' or 'first', not 'last'"),
        ({"evry": 1, "source": "sink"}, "controls.reanchor.evry: unknown key; did you mean 'every'?"),
        (3, "controls.reanchor: must be a section with the keys every, above, source, not 3"),
    ],
)  # fmt: skip
def test_options_that_are_refused(pipe, reanchor, text):
    with pytest.raises(SettingsError) as caught:
        opened(pipe, controls={"reanchor": reanchor})
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keyframes_under_outpainting(pipe):
    rule = {"every": 1, "source": "keyframe"}
    with pytest.raises(
        SettingsError,
        match="^controls: reanchor.source=keyframe needs keyframes that fill the frame, and outpaint makes room$",
    ):
        opened(pipe, controls={"reanchor": rule, "outpaint": {"left": 0.5}})
    opened(pipe, controls={"reanchor": {**rule, "source": "first"}, "outpaint": {"left": 0.5}}).close()


def test_a_memory_without_a_sink():
    pipe = load_pipeline("longlive", seed=0, settings={"sink": 0}, device="cpu")
    with pytest.raises(
        InputError, match="^controls.reanchor rebuilds the sink, and the memory of 12 latent frames has none$"
    ):
        opened(pipe, controls={"reanchor": {"every": 1, "source": "sink"}})


def test_a_pipeline_without_control_has_no_keyframes(base):
    with pytest.raises(SessionError, match="this pipeline has no control weights, so it takes no keyframes"):
        opened(base, controls={"reanchor": {"every": 1, "source": "keyframe"}})
    with opened(base, controls={"reanchor": {"every": 1, "source": "first"}}) as session:
        assert [next(session).report.reanchored for _ in range(3)] == [False, True, True]


def test_a_pipeline_that_cannot(monkeypatch, pipe):
    declared = Capability(support=Support.NOT_IMPLEMENTED, reason="its loop is closed")
    capabilities = {**pipe.hooks.info.capabilities, "reanchor": declared}
    monkeypatch.setattr(pipe.hooks, "info", pipe.hooks.info.model_copy(update={"capabilities": capabilities}))
    with pytest.raises(Unsupported, match="pipeline 'longlive': reanchor is not implemented: its loop is closed"):
        opened(pipe, controls={"reanchor": {"every": 1, "source": "sink"}})


def test_it_holds_for_a_whole_stream(pipe):
    with opened(pipe) as session, pytest.raises(SettingsError, match="controls.reanchor cannot change inside a stream"):
        session.update(controls={"reanchor": {"every": 1, "source": "sink"}})


def test_the_first_chunk_that_can_be_rebuilt():
    for rule, chunk in (({"every": 7}, 7), ({"above": 0.5}, 1), ({"every": 7, "above": 0.5}, 1)):
        assert ControlSettings(reanchor={**rule, "source": "sink"}).reanchor.earliest == chunk
