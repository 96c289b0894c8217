"""What must be true of references in reserved slots, as functions that raise AssertionError: used by the tests, and by
the mutants that show that each of them can fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import oracles
import torch
import torch.nn.functional as F
from einops import rearrange
from support import distance, frames, opened, picture, same, stream
from torch import Tensor

from vace_adapt import HintScale, Reference
from vace_adapt.attention.plain import text_projections
from vace_adapt.attention.rope import RotaryGrid, Rotation, rotate
from vace_adapt.cache.slots import ReferenceSlots
from vace_adapt.cache.text import TextLayer
from vace_adapt.contract import HintSource
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.models.wan_block import run_block
from vace_adapt.scale import Schedule
from vace_adapt.streaming.control_path import ControlPath

TOKENS = 6
CHUNK = 3
ONE = {"reference_slots": 1}


# --- one full pass over [reference rows | chunk rows], in plain code -------------------------------------------------


@dataclass
class Seen:
    """What a stream ran: passes of the base over chunks, and what was given to its context path."""

    passes: list[tuple[int, Tensor, float, Tensor]] = field(default_factory=list)
    """Number of the chunk, its latents, the timestep and the flow, of every denoise step."""
    latents: list[Tensor] = field(default_factory=list)
    control: list[Tensor] = field(default_factory=list)
    references: Any = None


def seen(pipe: Any, chunks: int, control: bool = True, **options: Any) -> Seen:
    """Run a stream and write down what its base did."""
    found = Seen()
    forward, context_of = CausalWan.forward, ControlPath.chunk

    def recorded(self, latents, timestep, text, layer_cache, hints=None):
        flow = forward(self, latents, timestep, text, layer_cache, hints)
        if isinstance(hints, HintSource):
            found.passes.append((len(found.latents), latents.clone(), float(timestep[0]), flow.clone()))
        return flow

    def chunk(self, index, composed, hint_reuse):
        context = context_of(self, index, composed, hint_reuse)
        found.control.append(next(iter(context._given.values())))
        found.references = self._context._references
        return context

    with (
        mock.patch.object(CausalWan, "forward", recorded),
        mock.patch.object(ControlPath, "chunk", chunk),
        opened(pipe, num_frames=9 + 12 * (chunks - 1), **options) as session,
    ):
        if control:
            session.feed(frames(9 + 12 * (chunks - 1)), last=True)
        for made in session:
            found.latents.append(made.latents.clone())
    return found


def behind(
    blocks: Any,
    rows: Tensor,
    modulation: Tensor,
    text: Tensor,
    rotation: Rotation,
    allowed: Tensor,
    hints: dict[int, Tensor],
    past: Sequence[tuple[Tensor, Tensor]] = (),
) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Rows [B, N, D] behind every block, and its rotated keys and values.

    `allowed` [N, P + N] says which rows see which: P rows of the past, then the N rows themselves.
    """
    found, kept = [], []

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = rotate(query, rotation), rotate(key, rotation)
        kept.append((key, value))
        if past:
            key, value = joined(past[len(kept) - 1], (key, value))
        query, key, value = (each.transpose(1, 2) for each in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed).transpose(1, 2)

    for i, block in enumerate(blocks):
        rows = run_block(block, rows, modulation, TextLayer(text, *text_projections(block.attn2, text)), attend)
        rows = rows + hints.get(i, 0.0)
        found.append(rows)
    return found, kept


def tokens_of(model: Any, latents: Tensor) -> Tensor:
    return rearrange(model.patch_embedding(latents), "b d f h w -> b (f h w) d")


def all_see_all(rows: int, past: int = 0) -> Tensor:
    return torch.ones(rows, past + rows, dtype=torch.bool)


def references_see_themselves(references: int, rows: int, past: int = 0) -> Tensor:
    """Reference rows see reference rows; chunk rows see everything."""
    allowed = all_see_all(references + rows, past)
    allowed[:references] = False
    allowed[:references, past : past + references] = True
    return allowed


def history(pipe: Any, finished: Sequence[Tensor], text: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Rotated keys and values of finished chunks, as the bare base writes them."""
    model = pipe.parts.model
    rope = RotaryGrid(pipe.parts.backbone.head_dim, (2, 3), torch.device("cpu"))
    kept: list[tuple[Tensor, Tensor]] = []
    _, modulation = model._embed_time(torch.zeros(1), text.dtype)
    for number, latents in enumerate(finished):
        rows, own = tokens_of(model, latents), CHUNK * TOKENS
        rotation = rope.at(range(number * CHUNK, (number + 1) * CHUNK))
        _, new = behind(model.blocks, rows, modulation, text, rotation, all_see_all(own, number * own), {}, kept)
        kept = [joined(*pair) for pair in zip(kept, new, strict=True)] if kept else new
    return kept


def joined(past: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Keys and values of the past in front of new ones."""
    return torch.cat([past[0], new[0]], dim=1), torch.cat([past[1], new[1]], dim=1)


def hints_of_all_rows(pipe: Any, run: Seen, number: int, tokens: Tensor, given: Any, form: str) -> dict[int, Tensor]:
    """Hints of [reference rows | chunk rows]; those of reference rows are of rows that see themselves only."""
    path, references, count = pipe.context, run.references, run.references.count
    modulation, text = given
    entry = torch.cat([path.entry(references.control), path.entry(run.control[number])], dim=1)
    rope = RotaryGrid(pipe.parts.backbone.head_dim, (2, 3), torch.device("cpu"))
    rotation, n = rope.at(range(count + CHUNK)), CHUNK * TOKENS
    alone = references_see_themselves(count * TOKENS, n)
    rows, _ = behind(path.vace_blocks, entry + tokens, modulation, text, rotation, alone, {})
    if form == "joint":
        mixed, _ = behind(path.vace_blocks, entry + tokens, modulation, text, rotation, all_see_all(len(alone)), {})
        skip = count * TOKENS
        rows = [torch.cat([a[:, :skip], b[:, skip:]], dim=1) for a, b in zip(rows, mixed, strict=True)]
    return {layer: block.proj_out(x) for layer, block, x in zip(path.layers, path.vace_blocks, rows, strict=True)}


def plain_flow(pipe: Any, run: Seen, number: int, noisy: Tensor, timestep: float, form: str, scale: float) -> Tensor:
    """The flow of a chunk in one pass of the base over [reference rows | chunk rows], behind what is past."""
    model, references = pipe.parts.model, run.references
    text = model.embed_text(pipe.parts.text_encoder(["a red ball"]))
    embedded, modulation = model._embed_time(torch.tensor([timestep]), text.dtype)
    sigma = timestep / 1000
    noised = (1 - sigma) * references.latents + sigma * references.noise
    tokens = tokens_of(model, torch.cat([noised, noisy], dim=2))
    count, start = references.count, number * CHUNK
    hints = hints_of_all_rows(pipe, run, number, tokens, (modulation, text), form)
    scaled = {layer: hint * scale for layer, hint in hints.items()}
    rope = RotaryGrid(pipe.parts.backbone.head_dim, (2, 3), torch.device("cpu"))
    rotation = rope.at(range(start - count, start + CHUNK))
    past = history(pipe, run.latents[:number], text)
    allowed = references_see_themselves(count * TOKENS, CHUNK * TOKENS, start * TOKENS)
    rows, _ = behind(model.blocks, tokens, modulation, text, rotation, allowed, scaled, past)
    return model._unpatch(rows[-1][:, count * TOKENS :], embedded, noisy)


def flow_is_that_of_one_pass(
    pipe: Any,
    references: int = 1,
    form: str = "cached",
    control: bool = True,
    scale: float = 1.0,
    slots: int | None = None,
    chunks: int = 2,
) -> None:
    """At every step of the first chunks."""
    options = {"reference_form": form, "reference_slots": references if slots is None else slots}
    given = [picture(i) for i in range(references)]
    run = seen(pipe, chunks, control, references=given, scale=scale, controls=options)
    assert len(run.passes) == 4 * chunks
    for number, noisy, timestep, flow in run.passes:
        expected = plain_flow(pipe, run, number, noisy, timestep, form, scale)
        assert float((flow - expected).abs().max()) < 2e-5


# --- what is remembered ------------------------------------------------------------------------------------------------


def changing(pipe: Any, **options: Any) -> list[Tensor]:
    """A stream over a prompt switch, changes of references and of their scales, past its window."""
    made = []
    references = [picture(1), Reference(picture(2), scale=0.5)]
    ramp = HintScale(references_schedule=Schedule(chunks=((5, 1.0), (6, 0.5))))
    changes = ({}, {}, {"prompt": "a dog"}, {"references": [picture(3)]}, {"scale": HintScale(references=0.6)},
               {"scale": ramp}, {"references": []}, {"references": references}, {})  # fmt: skip
    with opened(pipe, references=references, **options) as session:
        session.feed(frames(9 + 12 * (len(changes) - 1)), last=True)
        for change in changes:
            session.update(**change)
            made.append(next(session).latents.clone())
    return made


def slots_equal_recomputed_ones(pipe: Any) -> None:
    """Bit for bit, in both forms."""
    take = ReferenceSlots.take

    def anew(self, *args):
        self._made_of.clear()
        return take(self, *args)

    for form in ("cached", "joint"):
        options = {"controls": {"reference_slots": 2, "reference_form": form}}
        kept = changing(pipe, **options)
        with mock.patch.object(ReferenceSlots, "take", anew):
            assert same(kept, changing(pipe, **options))


def base_runs_over_references_once(pipe: Any) -> None:
    """Once for each step, and again only when references or prompt change."""
    runs: list[int] = []
    forward = CausalWan.forward

    def counted(self, latents, *args):
        runs.append(latents.shape[2])
        return forward(self, latents, *args)

    with (
        mock.patch.object(CausalWan, "forward", counted),
        opened(pipe, references=[picture()], controls=ONE) as session,
    ):
        found = []
        for change in ({}, {}, {"prompt": "a dog"}, {}, {"references": [picture(1)]}, {}):
            session.update(**change)
            runs.clear()
            next(session)
            found.append(runs.count(1))
    assert found == [4, 0, 4, 0, 4, 0]


def nothing_grows(pipe: Any, chunks: int, settled: int) -> None:
    oracles.nothing_grows(pipe, chunks, settled, controls=ONE)


# --- what must not see them --------------------------------------------------------------------------------------------


def clean_passes_do_not_see_slots(pipe: Any) -> None:
    """The cache holds what the base alone writes for the same latents."""
    with opened(pipe, references=[picture()], controls=ONE, num_frames=33) as session:
        session.feed(frames(33), last=True)
        made = [chunk.latents.clone() for chunk in session]
        keys, values = session_cache(session)
    model = pipe.parts.model
    with opened(pipe) as bare:
        memory = bare.cache
        memory.text.write(model.embed_text(pipe.parts.text_encoder(["a red ball"])))
        for i, chunk in enumerate(made):
            step = memory.ring.chunk_pass(CHUNK * i, CHUNK)
            model(chunk, torch.zeros(1), memory.text, partial(memory.ring.layer, step=step))
        assert torch.equal(memory.ring.keys, keys)
        assert torch.equal(memory.ring.values, values)


def session_cache(session: Any) -> tuple[Tensor, Tensor]:
    """A copy of the keys and values of the frame slots."""
    return session.cache.ring.keys.clone(), session.cache.ring.values.clone()


def recaches_do_not_see_slots(pipe: Any) -> None:
    """After a prompt switch the cache holds what the base alone writes for the frames before it."""
    found = {}
    for slots in (0, 1):
        with opened(pipe, references=[picture()], controls={"reference_slots": slots}) as session:
            for _ in range(3):
                next(session)
            latents = torch.linspace(-1, 1, session.cache.recent.latents.numel())
            session.cache.recent.latents.copy_(latents.view_as(session.cache.recent.latents))
            session.update(prompt="a dog")
            next(session)
            found[slots] = [each[:, :, : 9 * TOKENS] for each in session_cache(session)]
    assert same(found[0], found[1])


def slots_without_a_reference_are_not_seen(pipe: Any) -> None:
    """Bit for bit the same, however many more are reserved; and without references, or at scale 0, as without slots."""
    one = stream(pipe, 3, references=[picture()], controls=ONE)
    assert same(one, stream(pipe, 3, references=[picture()], controls={"reference_slots": 3}))
    without = stream(pipe, 3)
    assert same(stream(pipe, 3, controls=ONE), without)
    assert same(stream(pipe, 3, references=[Reference(picture(), scale=0.0)], controls=ONE), without)


# --- streams -----------------------------------------------------------------------------------------------------------


def a_batch_of_two_equals_two_streams(pipe: Any) -> None:
    options = {"controls": {"reference_slots": 2}}
    both = stream(pipe, 3, seed=[4, 7], references=[[picture(1)], [picture(2)]], prompt=["a", "b"], **options)
    for row, (seed, prompt) in enumerate(((4, "a"), (7, "b"))):
        alone = stream(pipe, 3, seed=seed, references=[picture(row + 1)], prompt=prompt, **options)
        assert distance([chunk[row : row + 1] for chunk in both], alone) < 1e-4


def interleaved_streams_do_not_meet(pipe: Any) -> None:
    def chunks(session: Any, seed: int) -> Iterator[Tensor]:
        for _ in range(2):
            yield next(session).latents.clone()
            session.update(references=[picture(seed + 2)])

    alone, together = (
        [chunks(opened(pipe, seed=s, references=[picture(s)], controls=ONE), s) for s in range(2)] for _ in range(2)
    )
    expected = [list(one) for one in alone]
    made = list(zip(*together, strict=True))
    assert all(same(a, list(b)) for a, b in zip(expected, zip(*made, strict=True), strict=True))
