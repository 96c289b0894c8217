"""A session: inputs and their life, boundaries, ends, determinism."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import oracles
import pytest
import torch
from support import HEIGHT, WIDTH, distance, frames, opened, picture, same, stream

from vace_adapt import ControlSettings, HintScale, load_pipeline
from vace_adapt.hookspecs import hookimpl


def latents(session):
    return [chunk.latents.clone() for chunk in session]


# --- oracles: without control the base model, bit for bit ------------------------------------------------------------


def test_no_hints_is_the_base_bit_for_bit(pipe, base):
    oracles.no_hints_is_the_base(pipe, base)


def test_scale_zero_is_the_base_and_the_context_path_does_not_run(pipe, base):
    oracles.scale_zero_is_the_base(pipe, base)


def test_zero_hints_are_the_base_bit_for_bit(base):
    oracles.zero_hints_are_the_base(base)


def test_cached_references_equal_recomputed_ones_bit_for_bit(pipe):
    oracles.cached_references_equal_recomputed_ones(pipe)


def test_control_references_prompt_and_seed_are_all_felt(pipe):
    plain = stream(pipe, 2)
    for change in ({"control": False}, {"references": [picture()]}, {"prompt": "a blue cube"}, {"seed": 1}):
        assert distance(plain, stream(pipe, 2, **change)) > 0.01, change


def test_clean_passes_are_hint_free_by_default(pipe):
    """The cache of a controlled stream holds what the base alone writes for the same latents."""
    with opened(pipe) as controlled:
        controlled.feed(frames(21), last=True)
        made = latents(controlled)
        cache = {name: tensor.clone() for name, tensor in controlled.cache.tensors().items()}
    model = pipe.parts.model
    with opened(pipe) as bare:
        memory = bare.cache
        memory.text.write(model.embed_text(pipe.parts.text_encoder(["a red ball"])))
        for i, chunk in enumerate(made):
            step = memory.ring.chunk_pass(3 * i, 3)
            model(chunk, torch.zeros(1), memory.text, partial(memory.ring.layer, step=step))
        assert torch.equal(memory.ring.keys, cache["keys"])
        assert torch.equal(memory.ring.values, cache["values"])


def test_kv_policy_with_hints_changes_the_cache_from_the_second_block_on(pipe):
    found = {}
    for policy in ("hint_free", "with_hints"):
        with opened(pipe, controls=ControlSettings(kv_policy=policy)) as session:
            session.feed(frames(9), last=True)
            latents(session)
            found[policy] = session.cache.ring.keys.clone()
    free, hinted = found["hint_free"], found["with_hints"]
    assert torch.equal(free[0], hinted[0]), "hints enter behind block 0"
    assert all(not torch.equal(free[i], hinted[i]) for i in range(1, 4))


# --- chunks and ends -------------------------------------------------------------------------------------------------


def test_frames_of_chunks(pipe):
    with opened(pipe, num_frames=26) as session:
        shapes = [tuple(chunk.frames.shape) for chunk in session]
    assert shapes == [(1, 9, HEIGHT, WIDTH, 3), (1, 12, HEIGHT, WIDTH, 3), (1, 5, HEIGHT, WIDTH, 3)]


def test_control_that_ends_inside_a_chunk_is_completed_and_cut(pipe):
    fed = frames(14)
    with opened(pipe) as session:
        session.feed(fed, last=True)
        chunks = list(session)
    assert [chunk.frames.shape[1] for chunk in chunks] == [9, 5]
    padded = np.concatenate([fed, np.repeat(fed[-1:], 7, axis=0)])
    with opened(pipe) as session:
        session.feed(padded, last=True)
        whole = list(session)
    assert torch.equal(whole[1].frames[:, :5], chunks[1].frames)


def test_feeding_in_any_portions_is_the_same(pipe):
    fed = frames(33)
    together = stream(pipe, 3)
    with opened(pipe) as session:
        made = []
        portions = iter(np.split(fed, [4, 9, 10, 20, 33]))
        for count in (2, 2, 1):
            for _ in range(count):
                session.feed(next(portions))
            while session.waiting >= session.shapes.time.pixels(session._index):
                made.append(next(session).latents.clone())
    assert same(made, together)


def test_control_expires_with_its_chunk(pipe):
    """Chunk 1 gets no control: it runs as if none had ever been given, over the same cache."""
    with opened(pipe) as session:
        session.feed(frames(9))
        first = next(session)
        snapshot = session.cache.snapshot()
        second = next(session)
        assert not second.report.controlled
    with opened(pipe) as other:
        bare = next(other)
        assert not torch.equal(bare.latents, first.latents)
        other.cache.restore(snapshot)
        assert torch.equal(next(other).latents, second.latents)


def test_references_persist_until_changed(pipe):
    always = stream(pipe, 4, references=[picture(1)])
    with opened(pipe, references=[picture(1)]) as session:
        session.feed(frames(45), last=True)
        made = [next(session).latents.clone() for _ in range(2)]
        session.update(references=[picture(2)])
        made.append(next(session).latents.clone())
        session.update(references=[])
        made.append(next(session).latents.clone())
    assert same(made[:2], always[:2])
    assert not torch.equal(made[2], always[2])
    assert made[3].shape == always[3].shape, "references never change the shape of the latents"


def test_changes_take_effect_at_the_next_chunk(pipe):
    with opened(pipe) as session:
        session.feed(frames(33), last=True)
        first = next(session).latents.clone()
        session.update(prompt="a blue cube", scale=HintScale(control=0.5), references=[picture()])
        later = next(session)
    assert torch.equal(first, stream(pipe, 1)[0])
    assert later.report.references == 1
    assert not torch.equal(later.latents, stream(pipe, 2)[1])


def test_prompt_switch_recaches_under_the_new_prompt(pipe):
    with opened(pipe, num_frames=57) as session:
        made = [next(session).latents.clone() for _ in range(3)]
        session.update(prompt="a blue cube")
        made += latents(session)
    plain = stream(pipe, 5, control=False)
    assert same(made[:3], plain[:3])
    assert not torch.equal(made[3], plain[3])


def test_the_prompt_in_force_is_no_change(pipe):
    with opened(pipe, num_frames=57) as session:
        made = []
        for chunk in session:
            made.append(chunk.latents.clone())
            session.update(prompt="a red ball")
    assert same(made, stream(pipe, 5, control=False))


def test_end_by_number_of_frames_or_by_control(pipe):
    with opened(pipe, num_frames=9) as session:
        assert len(list(session)) == 1
        with pytest.raises(StopIteration):
            next(session)
    with opened(pipe) as endless:
        assert next(endless).report.index == 0
        assert next(endless).report.index == 1


# --- batches, determinism, isolation ---------------------------------------------------------------------------------


def test_a_batch_of_two_equals_two_streams(pipe):
    oracles.a_batch_of_two_equals_two_streams(pipe)


def test_same_seed_same_bits(pipe):
    assert same(stream(pipe, 3, references=[picture()]), stream(pipe, 3, references=[picture()]))


def test_observers_see_every_chunk_and_change_nothing(pipe):
    class Observer:
        def __init__(self):
            self.reports = []

        @hookimpl
        def vace_chunk_done(self, report):
            self.reports.append(report)

    observer = Observer()
    watched = load_pipeline("longlive", seed=0, device="cpu", dtype="float32", observers=[observer])
    assert same(stream(watched, 3), stream(pipe, 3))
    assert [(r.index, r.latent_start, r.latents, r.pixels) for r in observer.reports] == [
        (0, 0, 3, 9), (1, 3, 3, 12), (2, 6, 3, 12),
    ]  # fmt: skip
    assert all(r.controlled and r.seconds > 0 and r.fps > 0 and r.peak_memory_bytes > 0 for r in observer.reports)


def test_interleaved_streams_do_not_meet(pipe):
    oracles.interleaved_streams_do_not_meet(pipe)


def test_streams_in_threads_do_not_meet(pipe):
    alone = {s: stream(pipe, 2, seed=s, references=[picture(s)]) for s in range(3)}
    found = {}
    threads = [
        threading.Thread(target=lambda s=s: found.update({s: stream(pipe, 2, seed=s, references=[picture(s)])}))
        for s in alone
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(found[s], alone[s]) for s in alone)


def test_streaming_trains_nothing(pipe):
    before = [p.clone() for p in pipe.parts.model.parameters()]
    with torch.enable_grad():
        made = stream(pipe, 2)
    assert not any(chunk.requires_grad for chunk in made)
    assert all(torch.equal(a, b) for a, b in zip(before, pipe.parts.model.parameters(), strict=True))
