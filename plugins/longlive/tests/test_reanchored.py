"""Re-anchoring in both layouts: a live model of the official convention does what the native one does."""

from __future__ import annotations

import copy

import pytest
import reanchoring
from live import live_pipeline, reanchored
from official_shape import OfficialShaped, equal_states
from support import distance, patch
from test_live_model import native

from vace_adapt_longlive.official import OfficialCache, OfficialDenoiser
from vace_adapt_longlive.settings import LongLiveSettings


def both_layouts_do_the_same(source: str, window: int = 9) -> None:
    """Two rows over a window that slides, rebuilt at other chunks each; over a prompt switch, and at one."""
    settings = LongLiveSettings(name="longlive", window=window)
    model = native()
    live = live_pipeline(OfficialShaped(model, settings.sink, window), "official", settings)
    made, positions = reanchored(live, source)
    expected, held = reanchored(live_pipeline(copy.deepcopy(model), "native", settings), source)
    live.detach()
    assert distance(made, expected) < 1e-4
    assert positions == held
    assert any(rows[0] != rows[1] for rows in positions), "the rows were rebuilt before different chunks"


@pytest.mark.parametrize(("source", "window"), [("sink", 9), ("keyframe", 12), ("first", 9)])
def test_both_layouts_do_the_same(source, window):
    both_layouts_do_the_same(source, window)


def test_a_live_memory_can_be_taken_and_put_back():
    model = OfficialShaped(native(), 3)
    pipe = live_pipeline(model, "official", LongLiveSettings(name="longlive"))
    controls = {"reanchor": {"every": 6, "source": "sink"}}
    with pipe.stream("a", height=32, width=48, seed=[0, 1], controls=controls) as session:
        for _ in range(6):
            next(session)
        kept, positions = session.cache.snapshot(), [session.cache.positions(row) for row in (0, 1)]
        held = {name: tensor.clone() for name, tensor in session.cache.tensors().items()}
        next(session)
        assert [session.cache.positions(row)[:3] for row in (0, 1)] == [(6, 7, 8)] * 2
        session.cache.restore(kept)
        assert equal_states(dict(session.cache.tensors()), held)
        assert [session.cache.positions(row) for row in (0, 1)] == positions
        session.cache.reset()
        assert set(session.cache.positions(1)) == {-1}
    pipe.detach()


def test_the_memory_of_another_window_is_a_fresh_one(monkeypatch):
    monkeypatch.setattr(reanchoring, "SLOTS", 9)
    pipe = live_pipeline(native(), "native", LongLiveSettings(name="longlive", window=9))
    reanchoring.the_memory_is_a_fresh_one(pipe, {"every": 1, "source": "first"})


def never(real):
    return lambda self, row, latents, timestep: None


def sink_kept(real):
    return lambda self, rows, *args, rewrite_sink: real(self, rows, *args, rewrite_sink=False)


def prompt_of_row_zero(real):
    def rows(self, prompt, which):
        return real(self, prompt, which)._replace(prompt=prompt[:1])

    return rows


def memory_of_row_zero(real):
    return lambda self, prompt, which: real(self, prompt, slice(0, 1))


MUTANTS = {
    "never rebuilt": patch(OfficialDenoiser, "rebuild", never),
    "the sink is kept": patch(OfficialDenoiser, "_call", sink_kept),
    "the prompt of row 0": patch(OfficialCache, "rows", prompt_of_row_zero),
    "the memory of row 0": patch(OfficialCache, "rows", memory_of_row_zero),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_caught(mutant, monkeypatch):
    MUTANTS[mutant](monkeypatch)
    with pytest.raises(AssertionError):
        both_layouts_do_the_same("first")
