"""A stream without control is diffusers' HeliosPipeline: guidance, solver and history, section by section."""

from __future__ import annotations

import pytest
import torch
from diffusers import HeliosPipeline
from diffusers.schedulers.scheduling_helios import HeliosScheduler

from vace_adapt import load_pipeline
from vace_adapt.streaming.noise import draw
from vace_adapt_framepack.wan import loop

SECTIONS, STEPS = 3, 5
NEGATIVE = "blurry, gray"


def streamed(**settings):
    pipe = load_pipeline(
        "framepack",
        seed=0,
        device="cpu",
        dtype="float32",
        settings={"steps": STEPS, "negative_prompt": NEGATIVE, **settings},
    )
    with pipe.stream("a red ball", height=32, width=48, seed=3, num_frames=33 * SECTIONS) as session:
        return pipe, [chunk.latents.clone() for chunk in session]


@torch.no_grad()
def of_diffusers(pipe, monkeypatch, guidance, **scheduler):
    """Cumulative latents of the real pipeline, with the stream's noise."""
    scheduler = HeliosScheduler(stages=1, stage_range=[0, 1], **scheduler)
    parts = pipe.parts
    real = HeliosPipeline(
        tokenizer=None, text_encoder=None, transformer=parts.model, vae=parts.vae, scheduler=scheduler
    )
    real.set_progress_bar_config(disable=True)
    noise = iter(draw([3], "chunk", i, (16, 9, 4, 6)) for i in range(SECTIONS))
    monkeypatch.setattr(real, "prepare_latents", lambda *args, **options: next(noise))
    return real(
        prompt_embeds=parts.text_encoder(["a red ball"]),
        negative_prompt_embeds=parts.text_encoder([NEGATIVE]),
        height=32, width=48, num_frames=33 * SECTIONS, num_inference_steps=STEPS, guidance_scale=guidance, output_type="latent",
    ).frames  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "scheduler"),
    [
        ({}, {}),
        ({"guidance": 1.0, "solver": "euler"}, {"scheduler_type": "euler"}),
        ({"dynamic_shift": True}, {"use_dynamic_shifting": True}),
    ],
)
def test_equals_the_pipeline(monkeypatch, settings, scheduler):
    pipe, made = streamed(**settings)
    expected = of_diffusers(pipe, monkeypatch, settings.get("guidance", 5.0), **scheduler)
    assert float((torch.cat(made, dim=2) - expected[:, :, -9 * SECTIONS :]).abs().max()) < 1e-4


@pytest.mark.parametrize("settings", [{"guidance": 4.0}, {"solver": "euler"}, {"negative_prompt": "other"}])
def test_what_differs_is_seen(monkeypatch, settings):
    pipe, made = streamed(**settings)
    expected = of_diffusers(pipe, monkeypatch, 5.0)
    assert float((torch.cat(made, dim=2) - expected[:, :, -9 * SECTIONS :]).abs().max()) > 1e-3


def test_guidance_of_one_runs_one_pass(monkeypatch):
    calls = []
    real = loop.HeliosDenoiser.__call__
    monkeypatch.setattr(loop.HeliosDenoiser, "__call__", lambda self, *args: calls.append(1) or real(self, *args))
    streamed(guidance=1.0)
    assert len(calls) == SECTIONS * STEPS
