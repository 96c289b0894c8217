"""What a stream refuses, when it ends, and who may give to it while it runs."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from support import HEIGHT, frames, opened, picture, same, stream

from vace_adapt import HintScale, load_pipeline
from vace_adapt.conditioning.vae import VaeCodec
from vace_adapt.errors import InputError, SessionError, SettingsError
from vace_adapt.hookspecs import hookimpl


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"num_frames": 2.0}, "num_frames must be a whole number, not 2.0"),
        ({"height": "32"}, "height must be a whole number, not '32'"),
        ({"width": None}, "width must be a whole number, not None"),
        ({"seed": "12"}, "seed must be a whole number, not '12'"),
        ({"seed": 1.5}, "seed must be a whole number, not 1.5"),
        ({"seed": [1, 1.7]}, "seed must be a whole number, not 1.7"),
        ({"seed": []}, "seed is an empty list: give one seed for each batch row"),
        ({"prompt": None}, "prompt must be text, or one text for each batch row, not None"),
        ({"prompt": [1]}, r"prompt must be text, or one text for each batch row, not \[1\]"),
        ({"references": None}, "references must be a list of images, not NoneType"),
        ({"references": {"a": 1}}, "references must be a list of images, not dict"),
    ],
)
def test_values_of_another_kind_are_refused(pipe, given, refusal):
    with pytest.raises(InputError, match=refusal):
        opened(pipe, **given)


def test_numbers_of_numpy_and_torch_are_numbers(pipe):
    batch = opened(pipe, seed=np.array([4, 7]), num_frames=np.int64(9), height=np.int32(HEIGHT))
    assert batch.seeds == (4, 7)
    assert opened(pipe, seed=torch.tensor([1, 2])).batch == 2


def test_settings_of_another_pipeline_are_refused():
    with pytest.raises(SettingsError, match="the settings are for 'other', the pipeline is 'longlive'"):
        load_pipeline("longlive", seed=0, settings={"name": "other"})


@pytest.mark.parametrize("device", ["cuda:77", "meta"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(InputError, match=f"device '{device}' cannot be used here: "):
        load_pipeline("longlive", seed=0, device=device)


def test_without_a_window_a_stream_has_an_end():
    pipe = load_pipeline("longlive", seed=0, device="cpu", settings={"window": -1, "max_latents": 8})
    most = r"22 frames are more than the 21 that this pipeline can make without a window \(8 latent frames\)"
    with pytest.raises(InputError, match=most):
        opened(pipe, num_frames=22)
    with opened(pipe) as session:
        assert [next(session).frames.shape[1] for _ in range(2)] == [9, 12]
        with pytest.raises(InputError, match=most):
            next(session)
    assert len(stream(pipe, 2)) == 2


def test_values_that_are_not_finite_end_the_stream(pipe, monkeypatch):
    monkeypatch.setattr(VaeCodec, "posterior_mean", lambda self, encoded: encoded.chunk(2, dim=1)[0] * float("nan"))
    session = opened(pipe)
    session.feed(frames(9))
    with pytest.raises(SessionError, match="chunk 0 has values that are not finite: weights, scale or settings overf"):
        next(session)
    with pytest.raises(SessionError, match="this stream failed at chunk 0"):
        next(session)


def test_an_observer_that_fails_ends_the_stream():
    class Observer:
        @hookimpl
        def vace_chunk_done(self, report):
            if report.index == 1:
                raise RuntimeError("disk full")

    pipe = load_pipeline("longlive", seed=0, device="cpu", observers=[Observer()])
    session = opened(pipe, num_frames=33)
    next(session)
    with pytest.raises(RuntimeError, match="disk full"):
        next(session)
    with pytest.raises(SessionError, match=r"this stream failed at chunk 1 \(RuntimeError: disk full\)"):
        next(session)


def test_frames_may_be_fed_from_another_thread(pipe):
    expected = stream(pipe, 4)
    fed = frames(9 + 12 * 3)
    with opened(pipe) as session:
        feeder = threading.Thread(
            target=lambda: [session.feed(frame[None], last=i == 44) for i, frame in enumerate(fed)]
        )
        feeder.start()
        made = []
        while len(made) < 4:
            if session.waiting >= 12 or not feeder.is_alive():
                made.append(next(session).latents.clone())
        feeder.join()
    assert same(made, expected)


def test_closing_from_another_thread_waits_for_the_chunk(pipe):
    session = opened(pipe, num_frames=9 + 12 * 400)
    next(session)
    closer = threading.Timer(0.05, session.close)
    closer.start()
    made = []
    with pytest.raises(SessionError, match="this stream is closed"):
        made.extend(session)
    assert len(made) < 50  # not when the lock happens to be fair
    closer.join()
    assert session.waiting == 0


def test_two_threads_may_take_from_one_stream(pipe):
    expected = stream(pipe, 6, control=False)
    made = []
    with opened(pipe, num_frames=9 + 12 * 5) as session:
        takers = [
            threading.Thread(target=lambda: made.extend((c.report.index, c.latents) for c in session)) for _ in "ab"
        ]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.join()
    assert same([latents for _, latents in sorted(made, key=lambda found: found[0])], expected)


def test_the_last_of_several_changes_counts_and_the_others_stay(pipe):
    with opened(pipe, num_frames=9) as session:
        session.update(references=[picture(1)], scale=0.5)
        session.update(scale=1.0)
        changed = next(session).latents
    assert torch.equal(changed, stream(pipe, 1, control=False, references=[picture(1)])[0])


def test_a_scale_changed_together_with_what_it_silences(pipe):
    """Control frames of scale 0 are no control, so that references alone may stand in its place."""
    with opened(pipe, references=[picture()], controls={"reference_form": "references_only"}) as session:
        session.feed(frames(9))
        with pytest.raises(InputError, match="reference_form=references_only has no place for a control"):
            next(session)
        session.update(scale=HintScale(control=0.0))
        assert next(session).report.controlled


def test_control_after_a_long_bare_stretch_costs_what_it_always_costs(monkeypatch):
    real, calls = VaeCodec.encode_group, []
    monkeypatch.setattr(VaeCodec, "encode_group", lambda *args: (calls.append(1), real(*args))[1])
    mask = np.zeros((12, HEIGHT, 80), np.uint8)
    mask[:, :, :40] = 255
    costs = []
    for bare in (20, 60):
        with opened(load_pipeline("longlive", seed=0, device="cpu"), width=80) as session:
            for _ in range(bare):
                next(session)
            session.feed(frames(12, width=80), mask)
            calls.clear()
            next(session)
            costs.append(len(calls))
    assert costs[0] == costs[1] < 40
