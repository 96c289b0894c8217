"""Bases that take latents as they are (StreamDiffusionV2) beside control latents, which are always normalised."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support import HEIGHT, WIDTH, frames, picture

from vace_adapt import load_pipeline
from vace_adapt.context import references as references_module
from vace_adapt.context.past import PastFrames


@pytest.mark.parametrize("normalised", [True, False])
def test_references_are_normalised_as_the_base_wants_them_and_output_always_is(normalised, monkeypatch):
    pipe = load_pipeline("longlive", seed=0, device="cpu", dtype="float32")
    pipe.parts = dataclasses.replace(pipe.parts, normalised_input=normalised)
    held = []
    real = references_module.ReferenceRows.__init__

    def seen(self, path, patch_embedding, references):
        held.append(references)
        real(self, path, patch_embedding, references)

    monkeypatch.setattr(references_module.ReferenceRows, "__init__", seen)
    with pipe.stream(height=HEIGHT, width=WIDTH, references=[picture()]) as session:
        chunk = next(session)
    (references,) = held
    raw = pipe.codec.denormalise(references.control[:, :16])
    expected = references.control[:, :16] if normalised else raw
    assert torch.allclose(references.latents, expected, atol=1e-4)
    assert not references.control[:, 16:].any()
    decoded = pipe.codec.vae.decode(pipe.codec.denormalise(chunk.latents)).sample
    frames = (decoded * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1)
    assert (frames.int() - chunk.frames.int()).abs().max() <= 1


@pytest.mark.parametrize("normalised", [True, False])
def test_finished_latents_go_back_as_the_base_made_them(normalised, monkeypatch):
    """Whatever it wants of latents that come from the VAE."""
    pipe = load_pipeline("longlive", seed=0, device="cpu", dtype="float32")
    pipe.parts = dataclasses.replace(pipe.parts, normalised_input=normalised)
    held = []
    real = PastFrames.push
    monkeypatch.setattr(PastFrames, "push", lambda self, *came: held.append(came) or real(self, *came))
    with pipe.stream(height=HEIGHT, width=WIDTH, controls={"context_frames": 2}) as session:
        session.feed(frames(9))
        chunk = next(session)
    ((control, latents, noise),) = held
    assert torch.equal(latents, chunk.latents)
    assert control.shape == (1, 96, *latents.shape[2:])
    assert noise.shape == latents.shape
