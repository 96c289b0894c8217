"""The native MemFlow against tensors of the official code, chunk by chunk; and every mechanism broken once."""

from __future__ import annotations

import pytest
import torch
from support import golden, golden_names, patch

from vace_adapt.cache import ring
from vace_adapt.models import causal_wan, schedule
from vace_adapt.parity.replay import replay
from vace_adapt_memflow import attention, bank, native
from vace_adapt_memflow import replay as replay_module

TOLERANCE = 1e-4
FILES = golden_names("memflow")


def test_the_cases_cover_what_matters():
    assert {
        "memflow/hints", "memflow/single", "memflow/single_sma", "memflow/interactive", "memflow/interactive_sma",
        "memflow/interactive_switch", "memflow/interactive_switch_early",
    } == set(FILES)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_equals_the_official_code(name):
    found = replay(golden(name))
    labels = [label for label, _ in found.rows]
    assert "bank positions" in labels
    assert {"bank 0.k", "bank 1.v_new", "cache 0.k"} < set(labels)
    assert found.worst < TOLERANCE, found.rows


def settings(**changed):
    """Other settings than the file asks for."""

    def change(real):
        return lambda **options: real(**{**options, **changed})

    return patch(replay_module, "MemFlowSettings", change)


def never(real):
    return lambda self, *args, **options: None


def offered_by_denoise_passes(real):
    """A denoise pass commits: the bank is offered what the last of them has written, not what the clean pass has."""

    def commit(self, latents, timestep, chunk, start, hints):
        self.cache.bank.offer(chunk, start)
        kept = self.cache.bank.snapshot()
        real(self, latents, timestep, chunk, start, hints)
        self.cache.bank.restore(kept)

    return commit


def window_of_denoise_passes(real):
    """A denoise pass commits: the clean pass leaves the window as the last of them has written it."""

    def commit(self, latents, timestep, chunk, start, hints):
        kept = self.cache.ring.snapshot()
        real(self, latents, timestep, chunk, start, hints)
        self.cache.ring.restore(kept)

    return commit


def last_frame(real):
    def frame(self, number):
        return real(self, number + 2)

    return frame


def asked_with(change):
    def take(real):
        return lambda self, query: real(self, None if query is None else lambda layer: change(query, layer))

    return patch(bank.MemoryBank, "take", take)


def scores_of_values(real):
    def compress(self, layer, number, text):
        keys, values = self._banks
        self._banks = [values, keys]
        scores = self._scores(self._banks[0][layer, number], text)
        self._banks = [keys, values]
        kept, self._scores = self._scores, lambda *args: scores
        real(self, layer, number, text)
        self._scores = kept

    return compress


def kept_in_order_of_time(real):
    """The indices of the best, sorted."""

    def compress(self, layer, number, text):
        with pytest.MonkeyPatch.context() as patched:
            topk = torch.topk
            patched.setattr(
                torch, "topk", lambda *args: topk(*args).__class__((None, topk(*args).indices.sort().values))
            )
            real(self, layer, number, text)

    return compress


def one_slot_less(real):
    return property(lambda self: max(0, max(row.filled for row in self._rows) - 1))


def all_at_once(real):
    """A slot for every chunk that is offered."""

    def offer(self, chunk, start):
        for row in self._rows:
            row.interval = -1
        real(self, chunk, start)

    return offer


def prompt_read_at_once(real):
    def set_prompt(self, embeds):
        real(self, embeds)
        self._prompt_unread = False

    return set_prompt


def without_the_bank(real):
    return lambda self, *args, **options: real(self, *args, **{**options, "bank": 0})


def other_memories(count):
    def change(real):
        return lambda *args: real(*args[:4], count, args[5])

    return patch(attention.Memories, "between", change)


def one_choice_for_all_heads(real):
    def chosen(query, keys, values, visible, memories):
        return real(query.mean(dim=2, keepdim=True).expand_as(query), keys, values, visible, memories)

    return chosen


def hints_in_front_of_the_block(real):
    def forward(self, latents, timestep, text, layer_cache, hints=None):
        if hints is None:
            return real(self, latents, timestep, text, layer_cache)
        early = lambda inputs: {layer - 1: hint for layer, hint in hints(inputs).items() if layer}  # noqa: E731
        return real(self, latents, timestep, text, layer_cache, early)

    return forward


def hints_everywhere(real):
    return lambda self, sigma: self.denoising(self._steps - 1, sigma)


def no_renoise(real):
    return lambda self, clean, noise, sigma: clean


SINGLE, SWITCH = "memflow/single", "memflow/interactive_switch"

MUTANTS = {
    "bank is never offered anything": (patch(bank.MemoryBank, "offer", never), SINGLE),
    "bank never takes anything in": (patch(bank.MemoryBank, "take", never), SINGLE),
    "bank holds what a denoise pass made": (patch(native.NativeDenoiser, "commit", offered_by_denoise_passes), SINGLE),
    "window holds what a denoise pass made": (patch(native.NativeDenoiser, "commit", window_of_denoise_passes), SINGLE),
    "another frame of the chunk is offered": (patch(ring.RingCache, "frame", last_frame), SINGLE),
    "single for interactive": (settings(memory="single"), "memflow/interactive"),
    "interactive for single": (settings(memory="interactive"), SINGLE),
    "another interval": (settings(record_interval=2), "memflow/interactive"),
    "a slot for every chunk": (patch(bank.MemoryBank, "offer", all_at_once), SINGLE),
    "retrieval by another layer's keys": (asked_with(lambda query, layer: query(1 - layer)), SINGLE),
    "retrieval by a prompt of zeros": (asked_with(lambda query, layer: query(layer) * 0), SINGLE),
    "retrieval by the prompt turned": (asked_with(lambda query, layer: -query(layer)), SINGLE),
    "retrieval by values": (patch(bank.MemoryBank, "_compress", scores_of_values), SINGLE),
    "kept in order of time": (patch(bank.MemoryBank, "_compress", kept_in_order_of_time), SINGLE),
    "a frame is taken in once": (settings(official_quirks=False), "memflow/interactive"),
    "the new prompt is asked at once": (patch(native.NativeDenoiser, "set_prompt", prompt_read_at_once), SWITCH),
    "no bank in attention": (patch(ring.RingCache, "chunk_pass", without_the_bank), SINGLE),
    "no bank in the recache": (patch(ring.RingCache, "recache_pass", without_the_bank), SWITCH),
    "one slot of the bank is not seen": (patch(bank.MemoryBank, "filled", one_slot_less), SINGLE),
    "no recache": (patch(native.NativeDenoiser, "recache", never), "memflow/interactive_switch_early"),
    "sparse: two frames": (other_memories(2), "memflow/single_sma"),
    "sparse: one choice for all heads": (patch(attention, "_chosen", one_choice_for_all_heads), "memflow/single_sma"),
    "sparse: sees everything": (other_memories(99), "memflow/interactive_sma"),
    "hints one block early": (patch(causal_wan.CausalWan, "forward", hints_in_front_of_the_block), "memflow/hints"),
    "hints in the clean pass": (patch(replay_module.GoldenChunk, "clean_pass", hints_everywhere), "memflow/hints"),
    "no renoise": (patch(schedule.FewStepSchedule, "renoise", no_renoise), SINGLE),
    "no sink": (settings(sink=1), SINGLE),
    "a shorter window": (settings(window=9), SINGLE),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_caught(mutant, monkeypatch):
    breaks, name = MUTANTS[mutant]
    breaks(monkeypatch)
    assert replay(golden(name)).worst > 10 * TOLERANCE
