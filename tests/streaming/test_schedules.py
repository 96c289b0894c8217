"""Scales that change over the chunks and denoise steps of a stream."""

from __future__ import annotations

import levels
import pytest
import torch
from support import frames, opened, picture, stream

from vace_adapt import ControlSettings, HintScale
from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.context.blocks import ContextBlock
from vace_adapt.errors import InputError
from vace_adapt.scale import Schedule


def test_a_ramp_over_chunks_is_a_scale_for_each_chunk(pipe):
    levels.a_ramp_is_a_scale_for_each_chunk(pipe)


def test_a_window_of_steps_runs_the_context_path_in_it_only(pipe, monkeypatch):
    calls = []
    real = ContextBlock.forward
    monkeypatch.setattr(ContextBlock, "forward", lambda self, *args: calls.append(1) or real(self, *args))
    layers = len(pipe.context.layers)
    for window, steps in (({}, 4), ({"start_step": 1}, 3), ({"end_step": 1}, 1), ({"start_step": 1, "end_step": 3}, 2)):
        calls.clear()
        stream(pipe, 1, scale=HintScale(control_schedule=Schedule(**window)))
        assert len(calls) == steps * layers


def test_clean_passes_with_hints_have_the_last_steps_scale(pipe):
    caches = {}
    for name, policy, window in (
        ("until the end", "with_hints", {}),
        ("before the end", "with_hints", {"end_step": 3}),
        ("never", "hint_free", {"end_step": 3}),
    ):
        settings = ControlSettings(kv_policy=policy, scale=HintScale(control_schedule=Schedule(**window)))
        with opened(pipe, controls=settings) as session:
            session.feed(frames(9), last=True)
            next(session)
            caches[name] = session.cache.ring.keys.clone()
    assert torch.equal(caches["before the end"], caches["never"])
    assert not torch.equal(caches["until the end"], caches["never"])


def test_a_chunk_whose_control_acts_at_no_step_has_none(pipe, monkeypatch):
    """It is not encoded; one that acts at some step is, once."""
    encoded = []
    real = ControlEncoder.control
    monkeypatch.setattr(
        ControlEncoder, "control", lambda self, chunk, *args: encoded.append(chunk) or real(self, chunk, *args)
    )
    scale = HintScale(control_schedule=Schedule(chunks=((1, 1.0), (2, 0.0), (3, 1.0)), start_step=2))
    with opened(pipe, scale=scale) as session:
        session.feed(frames(45), last=True)
        assert [chunk.report.controlled for chunk in session] == [True, True, False, True]
    assert encoded == [0, 1, 3]


def test_references_only_may_follow_a_control(pipe):
    """Chunk by chunk: who is silent in a chunk is not there."""
    control, references = Schedule(chunks=((0, 1.0), (1, 0.0))), Schedule(chunks=((0, 0.0), (1, 1.0)))
    options = {"references": [picture()], "controls": {"reference_form": "references_only"}}
    scale = HintScale(control_schedule=control, references_schedule=references)
    found = stream(pipe, 2, scale=scale, **options)
    assert torch.equal(found[0], stream(pipe, 1)[0])
    with opened(pipe, scale=HintScale(control_schedule=Schedule(end_step=2)), **options) as session:
        session.feed(frames(9))
        with pytest.raises(InputError, match="reference_form=references_only has no place for a control"):
            next(session)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        ({"control_schedule": Schedule(start_step=4)}, "scale.control_schedule speaks of denoise step 4, the last one is 3"),
        ({"references_schedule": Schedule(end_step=6)}, "scale.references_schedule speaks of denoise step 5, the last one is 3"),
        ({"control_schedule": Schedule(steps=((0, 1.0), (9, 0.0)))}, "scale.control_schedule speaks of denoise step 9, the last one is 3"),
    ],
)  # fmt: skip
def test_steps_that_the_pipeline_does_not_have(pipe, schedule, text):
    with pytest.raises(InputError) as caught:
        opened(pipe, scale=HintScale(**schedule))
    assert str(caught.value) == text
    session = opened(pipe)
    with pytest.raises(InputError, match="speaks of denoise step"):
        session.update(scale=HintScale(**schedule))
