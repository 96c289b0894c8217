"""Pipelines around a live base model, and the stream they are compared on."""

from __future__ import annotations

from typing import Any

import torch
from support import frames, picture
from torch import nn

from vace_adapt.contract import PipelineParts
from vace_adapt.embedded.tiny import TINY, tiny_context_path, tiny_text_encoder, tiny_vae
from vace_adapt.loading import load_plugin
from vace_adapt.streaming.pipeline import Pipeline
from vace_adapt_longlive.settings import LongLiveSettings


def live_pipeline(model: nn.Module, layout: str, settings: LongLiveSettings) -> Pipeline:
    parts = PipelineParts(
        model=model,
        layout=layout,
        settings=settings,
        device=torch.device("cpu"),
        dtype=torch.float32,
        backbone=TINY,
        vae=tiny_vae(0),
        text_encoder=tiny_text_encoder(0),
        draws=len(settings.denoising_steps),
    )
    return Pipeline(load_plugin("longlive"), parts, tiny_context_path(0), live=True)


def switched(pipe: Pipeline, chunks: int = 7, **controls: Any) -> list[torch.Tensor]:
    """A controlled stream with a reference, past the window, with a prompt switch."""
    made = []
    with pipe.stream("a red ball", height=32, width=48, references=[picture()], controls=controls) as session:
        session.feed(frames(9 + 12 * (chunks - 1)), last=True)
        for index in range(chunks):
            if index == 5:
                session.update(prompt="a blue cube")
            made.append(next(session).latents.clone())
    return made


def reanchored(pipe: Pipeline, source: str, rows: int = 2) -> tuple[list[torch.Tensor], list[list[list[int]]]]:
    """Rows of their own prompts, rebuilt by a bound that they pass at different chunks and before chunk 6, with prompt
    switches before chunks 5 and 6: their latents, and the frames that each row's memory holds after every chunk.
    """
    made, positions = [], []
    controls = {"reanchor": {"every": 6, "above": 0.9, "source": source}}
    prompts = ["a red ball", "a dog"][:rows]
    with pipe.stream(prompts, height=32, width=48, seed=list(range(rows)), controls=controls) as session:
        session.keyframe(frames(1), frame=0)
        for index in range(8):
            if index in (5, 6):
                session.update(prompt=[f"a blue cube {index}", "a cat"][:rows])
            made.append(next(session).latents.clone())
            positions.append([sorted(session.cache.positions(row)) for row in range(rows)])
    return made, positions
