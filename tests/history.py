"""What `controls.context_frames` must show of a stream's past, as functions that raise AssertionError; see `oracles`."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from support import HEIGHT, WIDTH, distance, frames, opened, picture, same, stream
from torch import Tensor

from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.context.chunk import ChunkContext
from vace_adapt.context.past import Past
from vace_adapt.streaming.noise import draw

FED = (True, True, False, True, False, True)
"""Chunks for which a control is given."""


def seen(pipe: Any, count: int, **options: Any) -> tuple[list[Past], list[Tensor], dict[int, Tensor]]:
    """The past that every chunk was shown, what was made of every chunk, and the control latents of those fed; over a
    prompt switch.
    """
    pasts: list[Past] = []
    given: dict[int, Tensor] = {}
    init, encode = ChunkContext.__init__, ControlEncoder.control

    def made(self, *args, **kwargs):
        past = kwargs["past"]
        pasts.append(Past(past.control.clone(), past.nothing, past.latents.clone(), past.noise.clone()))
        init(self, *args, **kwargs)

    def encoded(self, chunk, *args):
        given[chunk] = encode(self, chunk, *args)
        return given[chunk]

    with mock.patch.object(ChunkContext, "__init__", made), mock.patch.object(ControlEncoder, "control", encoded):
        session = opened(pipe, references=[picture()], controls={"context_frames": count}, **options)
        with session:
            latents = []
            for index, fed in enumerate(FED):
                if fed:
                    session.feed(frames(session.shapes.time.pixels(index), seed=index))
                if index == 4:
                    session.update(prompt="a dog")
                latents.append(next(session).latents.clone())
    return pasts, latents, given


def the_past_is_what_was_given_and_made(pipe: Any) -> None:
    """Frame by frame, for a past shorter than a chunk, longer than one, and longer than the stream."""
    time = opened(pipe).shapes.time
    nothing = ControlEncoder(pipe.codec, time, (1, HEIGHT, WIDTH), "group").nothing(0, time.latent_start(len(FED)))
    for count in (1, time.rest + 1, 100):
        pasts, latents, given = seen(pipe, count, seed=3)
        made = torch.cat(latents, dim=2)
        spans = [slice(time.latent_start(i), time.latent_start(i + 1)) for i in range(len(FED))]
        shown = torch.cat([given.get(i, nothing[:, :, span]) for i, span in enumerate(spans)], dim=2)
        noise = torch.stack([draw([3], "past", i, made[0, :, 0].shape) for i in range(made.shape[2])], dim=2)
        assert sorted(given) == [index for index, fed in enumerate(FED) if fed]
        for past, span in zip(pasts, spans, strict=True):
            before = slice(max(0, span.start - count), span.start)
            assert past.count == before.stop - before.start
            assert torch.equal(past.latents, made[:, :, before])
            assert torch.equal(past.noise, noise[:, :, before])
            assert torch.allclose(past.control, shown[:, :, before], rtol=0, atol=1e-6)
            if past.count:
                assert torch.allclose(past.nothing(), nothing[:, :, before], rtol=0, atol=1e-6)


def streams_with_a_past_do_not_meet(pipe: Any) -> None:
    options = {"controls": {"context_frames": 4}}
    alone = [stream(pipe, 3, seed=s, **options) for s in range(2)]
    sessions = [opened(pipe, seed=s, num_frames=33, **options) for s in range(2)]
    made: list[list[Tensor]] = [[], []]
    for session in sessions:
        session.feed(frames(33), last=True)
    for _ in range(3):
        for session, parts in zip(sessions, made, strict=True):
            parts.append(next(session).latents.clone())
    assert all(same(a, b) for a, b in zip(alone, made, strict=True))


def rows_of_a_batch_have_their_own_past(pipe: Any) -> None:
    options = {"controls": {"context_frames": 4}}
    both = stream(pipe, 3, seed=[4, 7], **options)
    for row, seed in enumerate((4, 7)):
        alone = stream(pipe, 3, seed=seed, **options)
        assert distance([chunk[row : row + 1] for chunk in both], alone) < 1e-4
