"""Pipelines around a live base model, and the streams they are compared on."""

from __future__ import annotations

from typing import Any

import torch
from support import frames, picture
from torch import nn

from vace_adapt.contract import PipelineParts
from vace_adapt.embedded.tiny import TINY, tiny_context_path, tiny_text_encoder, tiny_vae
from vace_adapt.loading import load_plugin
from vace_adapt.streaming.pipeline import Pipeline
from vace_adapt_streamdiffusion.loading import of_settings
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings

CHUNKS = 12
FED = frames(5 + 4 * (CHUNKS - 1))

Made = tuple[list[torch.Tensor], list[list[int]]]


def live_pipeline(model: nn.Module, layout: str, settings: StreamDiffusionSettings) -> Pipeline:
    parts = PipelineParts(
        model=model,
        layout=layout,
        settings=settings,
        device=torch.device("cpu"),
        dtype=torch.float32,
        backbone=TINY,
        vae=tiny_vae(0),
        text_encoder=tiny_text_encoder(0),
        **of_settings(settings),
    )
    return Pipeline(load_plugin("streamdiffusion"), parts, tiny_context_path(0), live=True)


def controlled(pipe: Pipeline) -> Made:
    """A controlled stream with a reference that starts from a video, past the ring, with a prompt switch in flight:
    its latents, and the frames that the memory holds after every chunk.
    """
    controls = {"structure": ["gray"]}
    return _made(pipe, {3: "a blue cube"}, references=[picture()], controls=controls)


def reanchored(pipe: Pipeline, source: str, **options: Any) -> Made:
    """Rebuilt before chunks 2, 4, ...: before the memory is full, when it is, and where positions begin again."""
    controls = {"structure": ["gray"], "reanchor": {"every": 2, "source": source}}
    return _made(pipe, {}, controls=controls, **options)


def _made(pipe: Pipeline, prompts: dict[int, str], **options: Any) -> Made:
    made, held = [], []
    with pipe.stream("a red ball", height=32, width=48, **options) as session:
        session.feed(FED, last=True)
        for index in range(CHUNKS):
            if index in prompts:
                session.update(prompt=prompts[index])
            made.append(next(session).latents.clone())
            held.append(sorted(session.cache.positions()))
    return made, held
