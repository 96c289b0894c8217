"""Mistakes with a session: one line each, and nothing has changed."""

from __future__ import annotations

import pytest
import torch
from support import frames, opened, picture, same, stream

from vace_adapt import ControlSettings, HintScale, load_pipeline
from vace_adapt.conditioning.vae import DecoderStream, VaeCodec
from vace_adapt.context.blocks import ContextBlock
from vace_adapt.errors import InputError, SessionError, SettingsError
from vace_adapt.models.causal_wan import CausalBlock


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"height": 33}, "height 33 is not a positive multiple of 16: nearest are 32 and 48"),
        ({"num_frames": 0}, "num_frames must be at least 1, not 0"),
        ({"seed": []}, "seed is an empty list"),
        ({"seed": [1, 2], "prompt": ["one"]}, "1 prompts are given, the stream has 2 batch rows"),
        ({"scale": -1.0}, "scale must be within 0..100, not -1.0"),
        ({"scale": float("nan")}, "scale must be within 0..100, not nan"),
        ({"scale": HintScale(layers=(1.0,))}, "scale has 1 layer factors, the model 2 context layers"),
        ({"scale": HintScale(frames=(1.0,))}, "scale has 1 frame factors, a chunk has 3 latent frames"),
        ({"references": [picture()] * 5}, r"5 references are given, at most 4 are allowed \(controls.max_references\)"),
        ({"references": ["nowhere.png"]}, "reference 0: no file 'nowhere.png'"),
    ],
)
def test_streams_that_cannot_open(pipe, options, text):
    with pytest.raises(InputError, match=text):
        opened(pipe, **options)


def test_too_few_frames_for_a_chunk_can_be_mended(pipe):
    fed = frames(9)
    with opened(pipe) as session:
        session.feed(fed[:5])
        with pytest.raises(
            InputError, match="chunk 0 needs 9 control frames, 5 are fed: feed 4 more, or end the control"
        ):
            next(session)
        session.feed(fed[5:])
        assert torch.equal(next(session).latents, stream(pipe, 1)[0])


def test_a_refused_update_changes_nothing(pipe):
    with opened(pipe, num_frames=33) as session:
        session.feed(frames(33), last=True)
        made = [next(session).latents.clone()]
        with pytest.raises(InputError):
            session.update(prompt="a dog", scale=0.3, references=["nowhere.png"])
        with pytest.raises(InputError, match="scale has 3 layer factors"):
            session.update(prompt="a dog", scale=HintScale(layers=(1.0, 1.0, 1.0)))
        with pytest.raises(InputError, match="control is 16x16"):
            session.feed(frames(3, height=16, width=16))
        made += [chunk.latents.clone() for chunk in session]
    assert same(made, stream(pipe, 3))


def test_control_and_references_only_form_cannot_meet(pipe):
    controls = ControlSettings(reference_form="references_only")
    with opened(pipe, references=[picture()], controls=controls) as session:
        session.feed(frames(9))
        with pytest.raises(InputError, match="has no place for a control: use cached or joint"):
            next(session)
        session.update(references=[])
        assert torch.equal(next(session).latents, stream(pipe, 1)[0])


def test_a_closed_stream_says_so(pipe):
    session = opened(pipe)
    session.close()
    session.close()
    for call in (lambda: next(session), lambda: session.feed(frames(9)), lambda: session.update(prompt="x")):
        with pytest.raises(SessionError, match="this stream is closed"):
            call()


def test_no_frames_after_the_last(pipe):
    with opened(pipe) as session:
        session.feed(frames(9), last=True)
        with pytest.raises(SessionError, match="the control ended with last=True: no more frames can be fed"):
            session.feed(frames(9))


def test_a_pipeline_without_control_weights_takes_none(base):
    with opened(base) as session:
        text = "this pipeline has no control weights, so it takes no {}: load it with weights.control"
        with pytest.raises(SessionError, match=text.format("control frames")):
            session.feed(frames(9))
        with pytest.raises(SessionError, match=text.format("references")):
            session.update(references=[picture()])
        with pytest.raises(SessionError, match=text.format("scale")):
            session.update(scale=0.5)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (VaeCodec, "encode_group", 2),
        (ContextBlock, "forward", 3),
        (CausalBlock, "forward", 9),
        (DecoderStream, "decode", 1),
    ],
    ids=["encoding", "context path", "base model", "decoding"],
)
def test_an_error_inside_a_chunk_ends_the_stream_but_not_the_pipeline(pipe, monkeypatch, owner, name, call):
    before = stream(pipe, 2, references=[picture()])
    real, calls = getattr(owner, name), []

    def fails(self, *args):
        calls.append(1)
        if len(calls) == call:
            raise RuntimeError("out of memory")
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails)
        session = opened(pipe, references=[picture()])
        session.feed(frames(9))
        with pytest.raises(RuntimeError, match="out of memory"):
            next(session)
    failed = r"this stream failed at chunk 0 \(RuntimeError: out of memory\)"
    for use in (lambda: next(session), lambda: session.feed(frames(12)), lambda: session.update(prompt="x")):
        with pytest.raises(SessionError, match=failed):
            use()
    assert same(stream(pipe, 2, references=[picture()]), before)


def test_devices_and_dtypes_are_checked_by_name():
    with pytest.raises(InputError, match="device must be auto, cpu, cuda, cuda:N or mps, not 'gpu'"):
        load_pipeline("longlive", seed=0, device="gpu")
    with pytest.raises(InputError, match="dtype must be auto, float32, bfloat16, float16, not 'bfloat'; did you mean"):
        load_pipeline("longlive", seed=0, dtype="bfloat")


def test_settings_are_validated_with_every_mistake_named(pipe):
    with pytest.raises(SettingsError, match=r"controls.reference_fom: unknown key; did you mean 'reference_form'\?"):
        opened(pipe, controls={"reference_fom": "joint"})
    with pytest.raises(SettingsError) as caught:
        load_pipeline("longlive", settings={"window": 5, "chunk": 3, "rope": "spiral"}, weights={"bass": "x"})
    assert "pipeline.rope: must be 'absolute' or 'relative', not 'spiral'" in str(caught.value)
    assert "pipeline.chunk: unknown key" in str(caught.value)
    with pytest.raises(SettingsError, match="pipeline: window 5 minus sink 3 leaves 2 latent frames, a chunk has 3"):
        load_pipeline("longlive", seed=0, settings={"window": 5})
    with pytest.raises(SettingsError, match="weights.bass: unknown key; did you mean 'base'"):
        load_pipeline("longlive", weights={"bass": "x"})
