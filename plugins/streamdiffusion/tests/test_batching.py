"""Chunks that are made together come out as if each were made alone; and what a session does about it."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from support import distance, frames, opened, patch, picture, same

from vace_adapt import load_pipeline
from vace_adapt.context.chunk import ChunkContext
from vace_adapt.context.past import PastFrames
from vace_adapt.context.stream import ContextStream
from vace_adapt.errors import InputError
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_streamdiffusion import loop, native

CHUNKS = 12
FED = frames(5 + 4 * (CHUNKS - 1))
STEPS = [700, 500, 400, 200]
SLOW = np.linspace(FED[0].astype(float), FED[1], 5 + 4 * (CHUNKS - 1)).astype(np.uint8)


def tiny(**settings):
    return load_pipeline("streamdiffusion", seed=0, settings=settings, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def sd():
    return tiny()


@pytest.fixture(scope="module")
def four():
    return tiny(denoising_steps=STEPS)


@pytest.fixture
def passes(monkeypatch):
    """Rows of every pass of the base model."""
    seen, real = [], CausalWan.forward

    def forward(self, latents, *args, **options):
        seen.append(len(latents))
        return real(self, latents, *args, **options)

    monkeypatch.setattr(CausalWan, "forward", forward)
    return seen


CHANGES = {
    2: {"prompt": "a green cube"},
    4: {"references": [picture(1)], "scale": 0.5},
    6: {"prompt": "a blue cone", "references": []},
}
GRAY = {"structure": ["gray"], "context_frames": 2}


def changing(pipe, changes, *, ahead, chunks=CHUNKS, **options):
    """A stream fed so many chunks ahead, whose prompt, references and scale change.

    Returns its latents, and the changes by the chunk that they took effect at.
    """
    found, effective, fed, done = [], {}, 0, 0
    with opened(pipe, references=[picture()], controls=GRAY, **options) as session:
        videos = np.stack([FED, SLOW]) if session.batch == 2 else FED
        for index in range(chunks):
            if index in changes:
                effective[session._inbox.chunk] = changes[index]
                session.update(**changes[index])
            while fed <= min(index + ahead, chunks - 1):
                count = session.shapes.time.pixels(fed)
                session.feed(videos[..., done : done + count, :, :, :], last=fed == chunks - 1)
                done, fed = done + count, fed + 1
            found.append(next(session).latents.clone())
    return found, effective


def check(pipe, **options):
    """Where chunks of two prompts are at work at once, too."""
    together, effective = changing(pipe, CHANGES, ahead=3, **options)
    assert min(effective) > min(CHANGES), "the chunks in front of them had begun"
    alone, same_ones = changing(pipe, effective, ahead=0, **options)
    assert effective == same_ones
    assert distance(together, alone) < 1e-4


@pytest.mark.parametrize("quirks", [True, False])
def test_chunks_made_together_are_those_made_alone(quirks):
    check(tiny(denoising_steps=STEPS, official_quirks=quirks), seed=[0, 7])


def test_with_two_steps(sd):
    check(sd)


def swapped(real):
    return lambda sources: real(sources[::-1])


def one_prompt(real):
    """Every row gets the newest prompt."""

    def set_prompt(self, block, number, embeds):
        if number > max((held or 0 for held in self.cache.prompts), default=0):
            for other in range(len(self.cache.prompts)):
                real(self, other, number, embeds)
            self.cache.prompts = [number] * len(self.cache.prompts)

    return set_prompt


def hints_under_the_newest_prompt(real):
    def made(self, *args):
        self._text = self._stream.text
        return real(self, *args)

    return made


def one_memory(real):
    """Text of all prompts in one place."""

    def init(self, *args, **options):
        real(self, *args, **options)
        while len(self._texts) > 1:
            self._texts.pop()

    return init


def all_that_is_finished(real):
    def before(self, start, gap, nothing):
        return real(self, start, start - self._latents.end, nothing)

    return before


@pytest.mark.parametrize(
    "breaks",
    [
        patch(loop, "together", swapped),
        patch(native.NativeDenoiser, "set_prompt", one_prompt),
        patch(ChunkContext, "_made", hints_under_the_newest_prompt),
        patch(ContextStream, "__init__", one_memory),
        patch(PastFrames, "before", all_that_is_finished),
    ],
)
def test_chunks_that_meet_are_noticed(four, monkeypatch, breaks):
    breaks(monkeypatch)
    with pytest.raises(AssertionError):
        check(four)


def test_they_are_made_together_only_where_they_are_fed(passes):
    four = tiny(denoising_steps=STEPS, official_quirks=True)
    with opened(four, controls={"structure": ["gray"]}) as session:
        session.feed(FED, last=True)
        assert len(list(session)) == CHUNKS
    together, made = passes.copy(), CHUNKS - 1
    assert together[:4] == [1] * 4, "chunk 0 alone"
    assert together[4 : 4 + made] == [4] * made, "one pass for each chunk"
    assert together[4 + made :] == [3, 2, 1], "the last ones run out"
    passes.clear()
    with opened(four, controls={"structure": ["gray"]}) as session:
        for index in range(CHUNKS):
            session.feed(frames(session.shapes.time.pixels(index)))
            next(session)
    assert passes.count(1) > len(passes) - 8, "only the rows that warm up run beside it"
    passes.clear()
    with opened(tiny(), controls={"structure": ["gray"]}) as session:
        session.feed(FED, last=True)
        list(session)
    assert passes == [1, 1, 1, *[2] * (CHUNKS - 2), 1]


def test_changes_take_effect_at_the_first_chunk_that_has_not_begun(sd):
    def stream(feed, update, before):
        with opened(sd, controls={"structure": ["gray"]}) as session:
            session.feed(FED[: 5 + 4 * (feed - 1)])
            found = [next(session).latents for _ in range(before)]
            if update:
                session.update(prompt="a green cube")
            session.feed(FED[5 + 4 * (feed - 1) :], last=True)
            return found + [chunk.latents for chunk in session]

    plain = stream(CHUNKS - 1, False, 3)
    early, late = stream(5, True, 3), stream(3, True, 3)

    def first(found):
        pairs = zip(found, plain, strict=True)
        return next(i for i, (a, b) in enumerate(pairs) if distance([a], [b]) > 1e-3)

    assert first(late) == 3
    assert first(early) == 4, "chunk 3 had begun beside chunk 2"


def test_a_chunk_behind_that_cannot_begin_does_not_stop_the_one_before(sd):
    with opened(sd, controls={"structure": ["gray"]}) as session:
        session.feed(FED[:9])
        session.feed(FED[9:11])
        session.feed(FED[11:13], np.full((2, 32, 48), 255, np.uint8))
        assert [next(session).report.index for _ in range(2)] == [0, 1]
        with pytest.raises(InputError, match="chunk 2 has a mask for some frames only"):
            next(session)
    with opened(sd, controls={"structure": ["gray"]}) as session:
        session.feed(FED[:11])
        assert [next(session).report.index for _ in range(2)] == [0, 1]
        with pytest.raises(InputError, match="chunk 2 needs 4 control frames, 2 are fed"):
            next(session)
        session.feed(FED[11:13])
        assert next(session).report.index == 2


@pytest.mark.parametrize("count", [5, 6, 9, 16])
def test_a_stream_that_ends_gives_all_its_chunks(sd, count):
    for options, fed in (({}, FED[:count]), ({"num_frames": count}, FED)):
        with opened(sd, controls={"structure": ["gray"]}, **options) as session:
            session.feed(fed, last=True)
            chunks = list(session)
        assert sum(chunk.frames.shape[1] for chunk in chunks) == count
        assert [chunk.report.index for chunk in chunks] == list(range(1 + -(-(count - 5) // 4)))


def test_closing_lets_chunks_at_work_go(sd):
    with opened(sd, controls={"structure": ["gray"]}) as session:
        session.feed(FED)
        next(session)
        next(session)
        assert session._maker.unfinished == 1
    assert session._maker.unfinished == 0


def test_reports_say_what_held_for_their_chunk(sd):
    with opened(sd, references=[picture()], controls={"structure": ["gray"]}) as session:
        session.feed(FED[:13])
        counts = [next(session).report.references for _ in range(2)]
        session.update(references=[])
        session.feed(FED[13:], last=True)
        counts += [chunk.report.references for chunk in session]
    assert counts == [1] * 3 + [0] * (CHUNKS - 3)


def test_rows_never_influence_each_other(sd):
    def stream(seeds, videos):
        with opened(sd, seed=seeds, controls=GRAY, references=[picture()]) as session:
            session.feed(videos, last=True)
            return [chunk.latents for chunk in session]

    both = stream([3, 4], np.stack([FED, SLOW]))
    for row, (seed, video) in enumerate(((3, FED), (4, SLOW))):
        assert distance([latents[row : row + 1] for latents in both], stream(seed, video)) < 1e-4


def test_streams_of_one_model_never_meet(sd):
    def fed(session):
        session.feed(FED, last=True)
        return session

    options = [{"seed": 1}, {"seed": 2, "prompt": "other", "references": [picture()]}]
    alone = []
    for one in options:
        with opened(sd, controls=GRAY, **one) as session:
            alone.append([chunk.latents for chunk in fed(session)])
    with opened(sd, controls=GRAY, **options[0]) as a, opened(sd, controls=GRAY, **options[1]) as b:
        pairs = [(x.latents, y.latents) for x, y in zip(fed(a), fed(b), strict=True)]
    assert same([x for x, _ in pairs], alone[0])
    assert same([y for _, y in pairs], alone[1])


@pytest.mark.parametrize("batched", [True, False])
def test_memory_stays_the_same_over_many_chunks(batched):
    pipe = tiny(stream_batch=batched)
    sizes, places = set(), []
    with opened(pipe, references=[picture()], controls=GRAY) as session:
        pointers = {name: tensor.data_ptr() for name, tensor in session.cache.tensors().items()}
        video = frames(9, height=32, width=48)
        session.feed(video[:9])
        for index in range(210):
            session.feed(video[:4])
            report = next(session).report
            sizes.update({report.cache_bytes} if index > 3 else ())
            places.append(int(session.cache.ring.places.max()))
            assert {name: tensor.data_ptr() for name, tensor in session.cache.tensors().items()} == pointers
        gc.collect()
    assert len(sizes) == 1
    assert max(places) == 49
    assert len(set(places[-50:])) > 30, "positions begin again"


def test_hints_that_are_added_again_do_not_depend_on_the_chunks_beside(four):
    def stream(ahead):
        with opened(four, controls={"structure": ["gray"], "hint_reuse": 2}) as session:
            found, done = [], 0
            for index in range(8):
                count = session.shapes.time.pixels(index)
                if not ahead:
                    session.feed(FED[done : done + count])
                elif index == 0:
                    session.feed(FED, last=True)
                done += count
                found.append(next(session).latents)
            return found

    assert distance(stream(True), stream(False)) < 1e-4
    with opened(four, controls={"structure": ["gray"]}) as session:
        session.feed(FED, last=True)
        exact = [next(session).latents for _ in range(8)]
    assert distance(stream(True), exact) > 1e-4, "reusing them is lossy"


@pytest.mark.parametrize("batched", [True, False])
def test_one_latent_chunks_can_be_shown_their_past(batched):
    pipe = tiny(stream_batch=batched)
    found = []
    for count in (0, 1, 3):
        with opened(pipe, controls={"structure": ["gray"], "context_frames": count}) as session:
            session.feed(FED, last=True)
            found.append([chunk.latents for chunk in session])
    assert torch.equal(found[0][0], found[2][0])
    assert distance(found[0][2:], found[1][2:]) > 1e-4
    assert distance(found[1][4:], found[2][4:]) > 1e-4


# --- re-anchoring and references in slots, while several chunks are at work --------------------------------------------


def ahead_and_alone(pipe, **options):
    """Latents of a stream that is fed at once, and of one fed chunk by chunk; and the reports of the first."""
    found = []
    for ahead in (True, False):
        with opened(pipe, **options) as session:
            made, done = [], 0
            for index in range(CHUNKS):
                count = session.shapes.time.pixels(index)
                if ahead and index == 0:
                    session.feed(FED, last=True)
                elif not ahead:
                    session.feed(FED[done : done + count])
                done += count
                made.append(next(session))
            found.append(made)
    return [[chunk.latents for chunk in made] for made in found], [chunk.report for chunk in found[0]]


@pytest.mark.parametrize("source", ["sink", "first"])
def test_a_chunk_that_is_reanchored_waits_for_those_in_front_of_it(four, source, passes):
    controls = {**GRAY, "reanchor": {"every": 5, "source": source}}
    (together, alone), reports = ahead_and_alone(four, controls=controls)
    assert distance(together, alone) < 1e-4
    assert [report.index for report in reports if report.reanchored] == [5, 10]
    assert 4 in passes, "the others are made together"
    (plain, _), _ = ahead_and_alone(four, controls=GRAY)
    assert distance(together[:5], plain[:5]) < 1e-4
    assert distance(together[5:], plain[5:]) > 1e-3


def test_reanchoring_by_drift_makes_chunks_one_after_another(sd, passes):
    with opened(sd, controls={**GRAY, "reanchor": {"above": 1e9, "source": "sink"}}) as session:
        session.feed(FED, last=True)
        list(session)
    assert set(passes) == {1}


def test_a_chunk_that_does_not_wait_is_noticed(four, monkeypatch):
    from vace_adapt.streaming.reanchoring import Reanchoring

    monkeypatch.setattr(Reanchoring, "waits", lambda self, chunk: False)
    (together, alone), _ = ahead_and_alone(four, controls={**GRAY, "reanchor": {"every": 5, "source": "sink"}})
    assert distance(together, alone) > 1e-4


@pytest.mark.parametrize("slots", [1, 2])
def test_references_in_slots_of_chunks_made_together(four, slots):
    controls, references = {**GRAY, "reference_slots": slots}, [picture(i) for i in range(slots)]
    (together, alone), _ = ahead_and_alone(four, controls=controls, references=references)
    assert distance(together, alone) < 1e-4
    (without, _), _ = ahead_and_alone(four, controls=GRAY, references=references)
    assert distance(together, without) > 1e-3
