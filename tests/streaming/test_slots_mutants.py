"""Every oracle of `slots` can fail: a mutant of the product for each."""

from __future__ import annotations

from functools import partial

import pytest
import slots
import torch
from slots import TOKENS
from support import patch

from vace_adapt.cache.ring import RingCache, Rotation
from vace_adapt.cache.slots import ReferenceSlots
from vace_adapt.context.references import References
from vace_adapt.context.slots import ReferencesInSlots
from vace_adapt.contract import HintSource
from vace_adapt.streaming.chunk import CLEAN_PASS, SessionChunk
from vace_adapt_longlive.native import NativeDenoiser


def one_frame_on(real):
    """Reserved slots at the chunk's own positions."""

    def seeing(self, references, plan):
        cos, sin = (torch.roll(table, -TOKENS, 0) for table in self.rope.at(range(plan.key[0], plan.key[0] + 1)))
        return real(self, references, plan._replace(reserved=Rotation(cos, sin)))

    return seeing


def rows_without_hints(real):
    return lambda self, inputs, **options: {}


def hints_without_scale(real):
    return lambda self, hint, factor, step: hint


def clean_references(real):
    return lambda self, sigma: self.latents


def hardly_seen(real):
    """Their values are not put into the slots."""

    def layer(self, index, step, references=None):
        return real(self, index, step, references and references._replace(value=references.value * 0))

    return layer


def at_first_positions(real):
    """Every chunk puts them where the first one did."""

    def seeing(self, references, plan):
        count = self.layout.references
        return real(self, references, plan._replace(reserved=self.rope.at(range(-count, 0))))

    return seeing


def whatever_the_prompt(real):
    return lambda self, references, prompt, run: real(self, references, 0, run)


def whatever_the_references(real):
    def take(self, references, prompt, run):
        return real(self, type(references)(**{**vars(references), "made_of": 0}), prompt, run)

    return take


def whatever_the_scales(real):
    def take(self, references, prompt, run):
        given, sigma, *_ = references.made_of
        return real(self, type(references)(**{**vars(references), "made_of": (given, sigma)}), prompt, run)

    return take


def one_memory_for_all_steps(real):
    def take(self, references, prompt, run):
        return real(self, type(references)(**{**vars(references), "step": 0, "made_of": 0}), prompt, run)

    return take


def always_anew(real):
    def take(self, *args):
        self._made_of.clear()
        return real(self, *args)

    return take


def clean_pass_with_slots(real):
    def clean_pass(self, sigma):
        seen = self.denoising(CLEAN_PASS, sigma)
        return HintSource(lambda inputs: {}, seen.references)

    return clean_pass


def recache_with_slots(real):
    def recache(self, timestep, *, keep_sink, hints):
        ring, slots = self.cache.ring, self.cache.slots
        start, latents = self.cache.recent.newest()
        step = ring.recache_pass(start, latents.shape[2], keep_sink=keep_sink)
        if slots is None:
            return self._forward(latents, timestep, partial(ring.layer, step=step), hints)
        step = step._replace(slots=step.slots + TOKENS, references=TOKENS)
        return self._forward(latents, timestep, lambda i: ring.layer(i, step, slots._kept(0, TOKENS, i)), hints)

    return recache


def every_slot_is_seen(real):
    def layer(self, index, step, references=None):
        found = real(self, index, step, references)
        if references is None:
            return found
        hidden = self._reserved - step.references
        keys, values = (each[index, :, : self._reserved + step.visible] for each in (self._keys, self._values))
        return found._replace(keys=keys, values=values, slots=step.slots + hidden)

    return layer


def first_row_for_all(real):
    def take(self, *args):
        real_layer = real(self, *args)
        return lambda layer: type(found := real_layer(layer))(*(each[:1].expand_as(each) for each in found))

    return take


def one_store_for_all(real):
    shared = {}

    def init(self, room, rope, **options):
        real(self, room, rope, **options)
        self.__dict__ = shared.setdefault("state", self.__dict__)

    return init


def kept_for_good(real):
    def take(self, *args):
        self.__dict__.setdefault("all", []).append(self.keys.clone())
        return real(self, *args)

    return take


def few_chunks_grow(pipe):
    slots.nothing_grows(pipe, chunks=12, settled=8)


MUTANTS = {
    "one frame on": (patch(RingCache, "_seeing", one_frame_on), slots.flow_is_that_of_one_pass),
    "at the first chunk's positions": (patch(RingCache, "_seeing", at_first_positions), slots.flow_is_that_of_one_pass),
    "rows without hints": (patch(ReferencesInSlots, "_hints", rows_without_hints), slots.flow_is_that_of_one_pass),
    "hints without scale": (
        patch(ReferencesInSlots, "_scaled", hints_without_scale), partial(slots.flow_is_that_of_one_pass, scale=0.5),
    ),
    "clean references": (patch(References, "noised", clean_references), slots.flow_is_that_of_one_pass),
    "without values": (patch(RingCache, "layer", hardly_seen), slots.flow_is_that_of_one_pass),
    "every slot is seen": (
        patch(RingCache, "layer", every_slot_is_seen), partial(slots.flow_is_that_of_one_pass, slots=2),
    ),
    "an unused slot is seen": (patch(RingCache, "layer", every_slot_is_seen), slots.slots_without_a_reference_are_not_seen),
    "an old prompt": (patch(ReferenceSlots, "take", whatever_the_prompt), slots.slots_equal_recomputed_ones),
    "old references": (patch(ReferenceSlots, "take", whatever_the_references), slots.slots_equal_recomputed_ones),
    "old scales": (patch(ReferenceSlots, "take", whatever_the_scales), slots.slots_equal_recomputed_ones),
    "one memory for all steps": (patch(ReferenceSlots, "take", one_memory_for_all_steps), slots.flow_is_that_of_one_pass),
    "always anew": (patch(ReferenceSlots, "take", always_anew), slots.base_runs_over_references_once),
    "a clean pass with slots": (patch(SessionChunk, "clean_pass", clean_pass_with_slots), slots.clean_passes_do_not_see_slots),
    "a recache with slots": (patch(NativeDenoiser, "recache", recache_with_slots), slots.recaches_do_not_see_slots),
    "the first row for all": (patch(ReferenceSlots, "take", first_row_for_all), slots.a_batch_of_two_equals_two_streams),
    "one store for all": (patch(ReferenceSlots, "__init__", one_store_for_all), slots.interleaved_streams_do_not_meet),
    "kept for good": (patch(ReferenceSlots, "take", kept_for_good), few_chunks_grow),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_caught(mutant, monkeypatch, request):
    breaks, oracle = MUTANTS[mutant]
    breaks(monkeypatch)
    with pytest.raises(AssertionError):
        oracle(request.getfixturevalue("pipe"))
