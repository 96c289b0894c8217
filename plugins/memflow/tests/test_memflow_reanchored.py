"""Re-anchoring: a row's window is rebuilt and its bank is emptied, and no other row notices."""

from __future__ import annotations

import pytest
import torch
from support import distance, opened, patch

from vace_adapt import load_pipeline
from vace_adapt.embedded.tiny import TINY
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt_longlive.native import NativeDenoiser as LongLiveDenoiser
from vace_adapt_memflow.bank import MemoryBank
from vace_adapt_memflow.cache import MemFlowCache
from vace_adapt_memflow.native import NativeDenoiser

SCHEDULE = FewStepSchedule((1000,), shift=5.0, warp=True, device=torch.device("cpu"))
RULE = {"reanchor": {"above": 0.5, "source": "first"}}


def load(**settings):
    return load_pipeline("memflow", seed=0, settings={"record_interval": 1, **settings}, device="cpu", dtype="float32")


def seen(pipe, chunks=8, **options):
    """A stream of latents, which rows were rebuilt before which chunk, and what their banks hold after it."""
    made, rebuilt, held = [], [], []
    real = NativeDenoiser.rebuild

    def watched(self, row, latents, timestep):
        rebuilt.append((len(made), row))
        real(self, row, latents, timestep)

    with pytest.MonkeyPatch.context() as patched, opened(pipe, controls=RULE, **options) as session:
        patched.setattr(NativeDenoiser, "rebuild", watched)
        for _ in range(chunks):
            made.append(next(session).latents.clone())
            held.append([session.cache.positions(row)[-3:] for row in range(session.batch)])
    return made, rebuilt, held


def rows_do_not_meet(**settings):
    """Rows that are rebuilt before different chunks, so that their banks are not equally full."""
    pipe = load(**settings)
    prompts = ["a red ball", "a dog"]
    both, rebuilt, held = seen(pipe, prompt=prompts, seed=[0, 1])
    due = [{chunk for chunk, row in rebuilt if row == number} for number in range(2)]
    assert due[0] != due[1]
    assert any(rows[0].count(-1) != rows[1].count(-1) for rows in held), "banks that are not equally full"
    for row in range(2):
        alone, _, own = seen(pipe, prompt=prompts[row], seed=row)
        assert [rows[row] for rows in held] == [rows[0] for rows in own]
        assert distance([chunk[row : row + 1] for chunk in both], alone) < 1e-4


@pytest.mark.parametrize("settings", [{}, {"sparse": True}, {"sparse": True, "sink": 1}, {"official_quirks": False}])
def test_rows_do_not_meet(settings):
    rows_do_not_meet(**settings)


def test_the_memory_is_a_fresh_one():
    """Its window is that of LongLive, bit for bit; its bank is empty, and the other row is as it was."""
    pipe, longlive = load(), load_pipeline("longlive", seed=0, device="cpu", dtype="float32")
    with opened(pipe, seed=[0, 1]) as session, opened(longlive, seed=[0, 1]) as other:
        for _ in range(6):
            next(session)
            next(other)
        ours, theirs = session.cache, other.cache
        before = {name: tensor.clone() for name, tensor in ours.tensors().items()}
        latents = torch.randn((1, 16, 12, 4, 6), generator=torch.Generator().manual_seed(0))
        NativeDenoiser(pipe.parts.model, SCHEDULE, ours, quirks=True).rebuild(1, latents, 0.0)
        LongLiveDenoiser(longlive.parts.model, SCHEDULE, theirs).rebuild(1, latents, 0.0)
        assert torch.equal(ours.ring.keys[:, 1], theirs.ring.keys[:, 1])
        assert torch.equal(ours.ring.values[:, 1], theirs.ring.values[:, 1])
        assert torch.equal(ours.recent.latents[1], theirs.recent.latents[1])
        assert ours.positions(1) == (*theirs.positions(1), -1, -1, -1)
        assert ours.positions(0)[-3:] != (-1, -1, -1)
        for buffer in (ours.ring.bank_keys, ours.ring.bank_values, ours.bank.keys, ours.bank.values):
            assert not buffer[:, 1].any()
            assert buffer[:, 0].any()
        for name, tensor in ours.tensors().items():
            rows = 0 if name == "recent" or name.startswith("text") else 1
            assert torch.equal(tensor.select(rows, 0), before[name].select(rows, 0)), name
    assert TINY.layers == ours.bank.frames.shape[0]


def all_seen(real):
    return lambda self, step_rows: None


def bank_kept(real):
    return lambda self, number: None


def first_slots_seen(real):
    def visible(self, step_rows):
        found = real(self, step_rows)
        return None if found is None else found.flip(-1)

    return visible


MUTANTS = {
    "empty slots are seen": patch(MemoryBank, "visible", all_seen),
    "the bank is kept": patch(MemoryBank, "empty", bank_kept),
    "the wrong slots are hidden": patch(MemoryBank, "visible", first_slots_seen),
    "no row is hidden anything": patch(MemFlowCache, "layers", lambda real: lambda self, step, references=None: (
        lambda index: self.ring.layer(index, step, None if references is None else references(index))
    )),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_caught(mutant, monkeypatch):
    MUTANTS[mutant](monkeypatch)
    with pytest.raises(AssertionError):
        rows_do_not_meet()
