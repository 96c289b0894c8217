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
from vace_adapt_memflow.settings import MemFlowSettings


def live_pipeline(model: nn.Module, layout: str, settings: MemFlowSettings) -> Pipeline:
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
    return Pipeline(load_plugin("memflow"), parts, tiny_context_path(0), live=True)


def switched(
    pipe: Pipeline, chunks: int = 13, switches: tuple[int, ...] = (4, 10), batch: int = 1
) -> tuple[list[torch.Tensor], list[Any]]:
    """A controlled stream with a reference, past the window and past a full bank, with prompt switches: its latents, and
    the frames in the first layer's bank while each chunk is made. Chunk 4 finds a frame on offer, and so does chunk 10.
    """
    made, held = [], []
    prompts = ["a red ball", "a dog"][:batch]
    with pipe.stream(prompts, height=32, width=48, seed=list(range(batch)), references=[picture()]) as session:
        fed = torch.from_numpy(frames(9 + 12 * (chunks - 1)))
        session.feed(fed if batch == 1 else torch.stack([fed] * batch), last=True)
        for index in range(chunks):
            if index in switches:
                session.update(prompt=[f"a blue cube {index}", "a cat at night"][:batch])
            made.append(next(session).latents.clone())
            held.append([session.cache.positions(row) for row in range(batch)])
    return made, held
