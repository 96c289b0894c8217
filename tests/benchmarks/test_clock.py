"""The parts of a chunk's time, with a clock that only moves in one place at a time."""

from __future__ import annotations

import types

import pytest
import torch
from fixed import FakeEvent, FakeTime
from timing import clock as clock_module
from timing.clock import PARTS, PartClock
from timing.turns import Arm, Budget, Running

from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.vae import DecoderStream, EncoderStream
from vace_adapt.context.blocks import ContextBlock
from vace_adapt.models.causal_wan import CausalBlock
from vace_adapt.streaming.chunk import SessionChunk

STEPS, BLOCKS, CONTEXT_BLOCKS = 4, 4, 2
COSTS = {
    "encode": (ControlEncoder, "control", {}, {"encode": 1}),
    "references": (ControlEncoder, "references", {"references": 1}, {"encode": 1}),
    "context": (ContextBlock, "forward", {}, {"context": STEPS * CONTEXT_BLOCKS}),
    "reference rows": (ContextBlock, "forward", {"references": 1}, {"context": 2 * STEPS * CONTEXT_BLOCKS}),
    "hints in the clean pass": (
        ContextBlock, "forward", {"controls": {"kv_policy": "with_hints"}}, {"context": (STEPS + 1) * CONTEXT_BLOCKS},
    ),
    "base": (CausalBlock, "forward", {}, {"base": STEPS * BLOCKS, "clean": BLOCKS}),
    "decode": (DecoderStream, "decode", {}, {"decode": 1}),
    "rest": (SessionChunk, "keep", {}, {"rest": STEPS}),
}  # fmt: skip


@pytest.fixture
def fake(monkeypatch):
    passing = FakeTime()
    monkeypatch.setattr(clock_module, "time", types.SimpleNamespace(perf_counter=passing))
    return passing


def parts(models, monkeypatch, fake, cost, device="cpu"):
    """Seconds by part of a first chunk in which one function takes a second."""
    owner, name, options, expected = COSTS[cost]
    monkeypatch.setattr(owner, name, fake.costing(getattr(owner, name), 1))
    clock = PartClock(torch.device(device))
    with clock.attached(models.base), Running(Arm(models.pipeline(), 32, 48, **options)) as stream:
        found = dict(stream.make(Budget(60), clock).parts)
    return found, {part: expected.get(part, 0) for part in PARTS}


@pytest.mark.parametrize("cost", COSTS)
def test_time_is_counted_where_it_passes(models, monkeypatch, fake, cost):
    found, expected = parts(models, monkeypatch, fake, cost)
    assert found == expected


def test_on_a_gpu_events_are_cut_into_parts(models, monkeypatch, fake):
    FakeEvent.time = fake
    for name, stand_in in (("Event", FakeEvent), ("synchronize", lambda _: 0), ("current_stream", lambda _: 0)):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    found, expected = parts(models, monkeypatch, fake, "base", device="cuda")
    assert found == expected


@pytest.mark.parametrize(
    ("name", "mutant", "cost"),
    [
        ("_leave", lambda self: self._inside.pop() and None, "rest"),
        ("_enter", lambda self, part: self._inside.append(part), "context"),
        ("_asked", lambda self, of_pass: lambda function: function, "context"),
        ("_asked", lambda self, of_pass: lambda function: function, "base"),
    ],
)
def test_mutants_are_seen(models, monkeypatch, fake, name, mutant, cost):
    monkeypatch.setattr(PartClock, name, mutant)
    found, expected = parts(models, monkeypatch, fake, cost)
    assert found != expected


def test_nothing_stays_behind(models):
    before = {(owner, name): vars(owner)[name] for owner, name, *_ in COSTS.values() if name in vars(owner)}
    before[EncoderStream, "encode"] = EncoderStream.encode
    with PartClock(models.device).attached(models.base):
        assert ControlEncoder.control is not before[ControlEncoder, "control"]
        assert models.base._forward_hooks
    assert all(vars(owner)[name] is function for (owner, name), function in before.items())
    assert not models.base._forward_hooks
    assert not models.base._forward_pre_hooks
