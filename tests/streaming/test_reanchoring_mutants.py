"""Every oracle of re-anchoring can fail: a program broken in one place is caught by the oracle named beside it."""

from __future__ import annotations

import inspect

import pytest
import reanchoring
import torch
from support import patch

from vace_adapt.cache.recent import RecentLatents
from vace_adapt.cache.ring import RingCache
from vace_adapt.streaming import reanchoring as core
from vace_adapt.streaming.drift import Statistics
from vace_adapt.streaming.reanchoring import Reanchoring
from vace_adapt_longlive.native import NativeDenoiser


def sink_kept(real):
    return lambda self, start, frames, *, keep_sink, batch_row=None: real(
        self, start, frames, keep_sink=True, batch_row=batch_row
    )


def one_frame_early(real):
    return lambda self, start, frames, **options: real(self, max(0, start - 1), frames, **options)


def row_zero_always(real):
    return lambda self, index, step, batch_row=None: real(self, index, step, None if batch_row is None else 0)


def not_clean(real):
    return lambda self, row, latents, timestep: real(self, row, latents, 500.0)


def not_replaced(real):
    return lambda self, row, latents: self.end - latents.shape[2]


def unchanged(real):
    return lambda self, latents, target: latents


def only_shifted(real):
    return lambda self, latents, target: latents - self.mean + target.mean


def frame_by_frame(real):
    def onto(self, latents, target):
        return torch.cat([real(Statistics.of(frame), frame, target) for frame in latents.split(1, dim=2)], dim=2)

    return onto


def each_frame_alone(real):
    return lambda codec, picture, count: torch.cat([real(codec, picture, 1)] * count, dim=2)


def the_first_picture(real):
    def before(self, chunk, anchored):
        kept = self._picture
        rebuilt = real(self, chunk, anchored)
        self._picture = self._picture if kept is None else kept
        return rebuilt if kept is None else real(self, chunk, None)

    return before


def of_row_zero(real):
    def newest(anchored):
        found = real(anchored)
        return None if found is None else found[:1].expand_as(found)

    return newest


def keyframe_in_the_sink_alone(real):
    return lambda self, row, newest: real(self, row, newest)[:, :, : reanchoring.SINK]


def rows_together(real):
    return lambda self, chunk: tuple(range(len(self._drift))) if real(self, chunk) else ()


def one_chunk_late(real):
    return lambda self, chunk: real(self, chunk - 1)


def always_due(real):
    return lambda self, chunk: tuple(range(len(self._drift))) if chunk else ()


def statistics_of_the_newest(real):
    def after(self, latents, drift):
        self._began = None
        real(self, latents, drift)

    return after


def keeps_every_chunk(real):
    def after(self, latents, drift):
        real(self, latents, drift)
        self.__dict__.setdefault("all", []).append(latents.clone())

    return after


def memory(pipe):
    reanchoring.the_memory_is_a_fresh_one(pipe, {"every": 1, "source": "sink"})


def memory_of_rows(pipe):
    reanchoring.the_memory_is_a_fresh_one(pipe, {"every": 1, "source": "sink"}, seed=[0, 1])


MUTANTS = {
    "the sink is kept": (patch(RingCache, "recache_pass", sink_kept), memory),
    "one position early": (patch(RingCache, "recache_pass", one_frame_early), memory),
    "a pass that is not clean": (patch(NativeDenoiser, "rebuild", not_clean), memory),
    "the newest frames are not replaced": (
        patch(RecentLatents, "replace", not_replaced), lambda pipe: reanchoring.the_memory_is_a_fresh_one(pipe, {"every": 1, "source": "first"}),
    ),
    "not replaced, at a later recache": (patch(RecentLatents, "replace", not_replaced), reanchoring.a_later_recache_starts_from_it),
    "row 0 is rebuilt for row 1": (patch(RingCache, "layer", row_zero_always), memory_of_rows),
    "row 0 with row 1": (patch(RingCache, "layer", row_zero_always), reanchoring.a_row_that_is_not_named_keeps_every_bit),
    "not pulled back": (patch(Statistics, "onto", unchanged), reanchoring.the_stream_is_pulled_back),
    "only shifted": (patch(Statistics, "onto", only_shifted), reanchoring.the_stream_is_pulled_back),
    "each frame for itself": (patch(Statistics, "onto", frame_by_frame), reanchoring.the_stream_is_pulled_back),
    "onto the newest": (patch(Reanchoring, "after", statistics_of_the_newest), reanchoring.the_stream_is_pulled_back),
    "pulled back, for sink": (patch(Reanchoring, "_rebuilt", lambda real: lambda self, row, newest: newest * 1.001), reanchoring.the_sink_is_the_newest),
    "a still that is no clip": (patch(core, "still_latents", each_frame_alone), reanchoring.the_sink_is_the_newest_keyframe),
    "the first keyframe for good": (patch(Reanchoring, "before", the_first_picture), reanchoring.the_sink_is_the_newest_keyframe),
    "the keyframe of row 0 for all": (patch(core, "_newest_whole", of_row_zero), reanchoring.the_sink_is_the_newest_keyframe),
    "a keyframe and nothing else": (patch(Reanchoring, "_rebuilt", keyframe_in_the_sink_alone), reanchoring.the_sink_is_the_newest_keyframe),
    "rows together, when": (patch(Reanchoring, "_due", rows_together), reanchoring.it_comes_when_it_is_due),
    "rows together": (patch(Reanchoring, "_due", rows_together), reanchoring.rows_do_not_meet),
    "one chunk late": (patch(Reanchoring, "_due", one_chunk_late), reanchoring.it_comes_when_it_is_due),
    "though it is off": (patch(Reanchoring, "_due", always_due), reanchoring.off_is_as_before),
    "every chunk is kept": (patch(Reanchoring, "after", keeps_every_chunk), reanchoring.nothing_grows),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_caught(mutant, monkeypatch, request):
    breaks, oracle = MUTANTS[mutant]
    needs = [request.getfixturevalue(name) for name in inspect.signature(oracle).parameters if name == "pipe"]
    breaks(monkeypatch)
    with pytest.raises(AssertionError):
        oracle(*needs)
