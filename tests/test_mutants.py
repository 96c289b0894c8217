"""Every oracle can fail: a program broken in one place is caught by the oracle named beside it.

Mutants of the arithmetic, caught by golden files, are beside the parity tests.
"""

from __future__ import annotations

import inspect

import history
import levels
import oracles
import pytest
import reuse
import torch
from support import patch

from vace_adapt.cache.recent import RecentLatents
from vace_adapt.cache.ring import RingCache
from vace_adapt.conditioning.vae import EncoderStream
from vace_adapt.context import chunk as context_chunk
from vace_adapt.context import parts as context_parts
from vace_adapt.context import stream as context_stream
from vace_adapt.context.past import PastFrames
from vace_adapt.context.references import ReferenceRows, References
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.scale import Schedule
from vace_adapt.streaming import chunk as chunk_module
from vace_adapt.streaming import control_path


def always_a_part(real):
    """Hints of nothing, where nothing was given."""
    return lambda *given: real(*given) or [context_parts.Part(1.0, False, ())]


def larger_for_smaller(real):
    """The wrong one of the control's scale and a reference's, where there are two."""

    def with_control(control, low, high):
        alone = high == float("inf") or not control.any()
        return real(control, low, high) if alone else control.clamp(min=high) - low

    return with_control


def smaller_for_larger(real):
    return lambda control, low, high: high - control.clamp(max=low) if control.any() else real(control, low, high)


def weakest_references_first(real):
    def levels_of(scales):
        for heard, low, high in real(scales):
            yield tuple(sorted(sorted(range(len(scales)), key=lambda i: scales[i])[: len(heard)])), low, high

    return levels_of


def every_set_from_level_zero(real):
    return lambda scales: ((heard, 0.0, high) for heard, _, high in real(scales))


def noise_numbered_among_all(real):
    def only(self, chosen):
        return References(self.control[:, :, chosen], self.latents[:, :, chosen], self.noise[:, :, chosen])

    return only


def no_map(real):
    return lambda scale, chunk, steps, factors, shape: real(scale, chunk, steps, None, shape)


def one_chunk_late(real):
    return lambda self, chunk, step: real(self, max(0, chunk - 1), step)


def hints_not_quite(real):
    def forward(self, latents, timestep, text, layer_cache, hints=None):
        def shifted(inputs):
            return {layer: hint + 1e-6 for layer, hint in hints(inputs).items()}

        return real(self, latents, timestep, text, layer_cache, None if hints is None else shifted)

    return forward


def one_step_longer(real):
    return lambda scales, every: real(scales, every + 1 if every > 1 else 1)


def whatever_the_scales(real):
    return lambda scales, every: real([scales[-1]] * len(scales), every)


def clean_pass_reuses(real):
    def hints(self, inputs, *, step, sigma, **rest):
        return real(self, inputs, step=len(self._steps) - 1 if step < 0 else step, sigma=sigma, **rest)

    return hints


def never_made_anew(real):
    """What was remembered stays, whatever the prompt."""

    def remembered(self, step, *args, **rest):
        return self._memory[step] if step in self._memory else real(self, step, *args, **rest)

    return remembered


def one_memory_for_all_steps(real):
    return lambda self, step, *args, **rest: real(self, 0, *args, **rest) if 0 not in self._memory else self._memory[0]


def one_encoder_memory_for_all(real):
    """The VAE's causal memory kept in one place, whichever stream wrote it."""
    shared = {}

    def encode(self, pixels):
        if self._state is not None:
            self._state = shared["state"]
        latents = real(self, pixels)
        shared["state"] = self._state
        return latents

    return encode


def one_ring_for_all(real):
    shared = {}

    def init(self, spec, rope, **options):
        real(self, spec, rope, **options)
        self.__dict__ = shared.setdefault(options["batch"], self.__dict__)

    return init


def noise_of_the_first_row(real):
    return lambda seeds, *args: real([seeds[0]] * len(seeds), *args)


def references_of_the_first_row(real):
    def at(self, sigma):
        rows = real(self, sigma)
        return rows[:1].expand_as(rows)

    return at


def noise_numbered_by_place(real):
    return lambda seeds, purpose, number, shape: real(seeds, purpose, number % 3, shape)


def control_of_the_chunk_before(real):
    """What was given for a chunk is taken for what was given for the next."""
    late = {}

    def push(self, control, latents, noise):
        real(self, late.get(id(self), control), latents, noise)
        late[id(self)] = control

    return push


def a_control_lasts(real):
    """Where nothing is given, what was given last is shown on."""

    def push(self, control, latents, noise):
        given = not (control[:, 32:] == 1).all() or not torch.equal(control[:, :16], control[:, 16:32])
        self.given = control if given else self.__dict__.get("given", control)
        real(self, self.given, latents, noise)

    return push


def the_first_frames(real):
    def push(self, latents):
        kept = latents[:, :, : self.slots]
        self.end += latents.shape[2] - kept.shape[2]
        real(self, kept)

    return push


def one_past_for_all(real):
    shared = {}

    def init(self, *args, **options):
        real(self, *args, **options)
        self.__dict__ = shared.setdefault("past", self.__dict__)

    return init


def keeps_every_chunk(real):
    def push(self, latents):
        real(self, latents)
        self.__dict__.setdefault("all", []).append(latents.clone())

    return push


def grows(real):
    def push(self, latents):
        real(self, latents)
        self.latents = torch.cat([self.latents, latents], dim=2)

    return push


def nothing_grows(pipe):
    oracles.nothing_grows(pipe, chunks=12, settled=8)


MUTANTS = {
    "hints though nothing is given": (patch(context_chunk, "parts", always_a_part), oracles.no_hints_is_the_base),
    "hints though the scale is 0": (patch(context_chunk, "parts", always_a_part), oracles.scale_zero_is_the_base),
    "the larger for the smaller": (
        patch(context_parts, "with_control", larger_for_smaller), levels.hints_are_the_integral_over_levels,
    ),
    "the smaller for the larger": (
        patch(context_parts, "without_control", smaller_for_larger), levels.hints_are_the_integral_over_levels,
    ),
    "the weakest references first": (
        patch(context_parts, "levels", weakest_references_first), levels.hints_are_the_integral_over_levels,
    ),
    "every set from level 0": (
        patch(context_parts, "levels", every_set_from_level_zero), levels.hints_are_the_integral_over_levels,
    ),
    "noise numbered among all references": (
        patch(References, "only", noise_numbered_among_all), levels.hints_are_the_integral_over_levels,
    ),
    "no map": (patch(context_stream, "control_scales", no_map), levels.a_map_is_a_scale_for_every_token),
    "a schedule one chunk late": (patch(Schedule, "at", one_chunk_late), levels.a_ramp_is_a_scale_for_each_chunk),
    "hints are added one step longer": (
        patch(context_chunk, "made_at", one_step_longer), reuse.reused_hints_are_those_recorded,
    ),
    "hints are added whatever the scales": (
        patch(context_chunk, "made_at", whatever_the_scales), reuse.reused_hints_are_those_recorded,
    ),
    "a clean pass has the last step's hints": (
        patch(context_chunk.ChunkContext, "_hints", clean_pass_reuses), reuse.reused_hints_are_those_recorded,
    ),
    "hints are not quite added": (patch(CausalWan, "forward", hints_not_quite), oracles.zero_hints_are_the_base),
    "an old prompt is remembered": (
        patch(ReferenceRows, "remembered", never_made_anew), oracles.cached_references_equal_recomputed_ones,
    ),
    "one memory for all steps": (
        patch(ReferenceRows, "remembered", one_memory_for_all_steps), oracles.cached_references_equal_recomputed_ones,
    ),
    "noise of the first row for all": (
        patch(chunk_module, "draw", noise_of_the_first_row), oracles.a_batch_of_two_equals_two_streams,
    ),
    "reference noise of the first row for all": (
        patch(control_path, "draw", noise_of_the_first_row), oracles.a_batch_of_two_equals_two_streams,
    ),
    "references of the first row for all": (
        patch(ReferenceRows, "at", references_of_the_first_row), oracles.a_batch_of_two_equals_two_streams,
    ),
    "one encoder memory for all streams": (
        patch(EncoderStream, "encode", one_encoder_memory_for_all), oracles.interleaved_streams_do_not_meet,
    ),
    "one cache for all streams": (
        patch(RingCache, "__init__", one_ring_for_all), oracles.interleaved_streams_do_not_meet,
    ),
    "a past frame's noise by its place": (
        patch(control_path, "draw", noise_numbered_by_place), history.the_past_is_what_was_given_and_made,
    ),
    "the past has the control of the chunk before": (
        patch(PastFrames, "push", control_of_the_chunk_before), history.the_past_is_what_was_given_and_made,
    ),
    "a control lasts in the past": (
        patch(PastFrames, "push", a_control_lasts), history.the_past_is_what_was_given_and_made,
    ),
    "of a chunk its first frames are the past": (
        patch(RecentLatents, "push", the_first_frames), history.the_past_is_what_was_given_and_made,
    ),
    "one past for all streams": (
        patch(PastFrames, "__init__", one_past_for_all), history.streams_with_a_past_do_not_meet,
    ),
    "the past's noise of the first row for all": (
        patch(control_path, "draw", noise_of_the_first_row), history.rows_of_a_batch_have_their_own_past,
    ),
    "every chunk is kept": (patch(RecentLatents, "push", keeps_every_chunk), nothing_grows),
    "a buffer grows": (patch(RecentLatents, "push", grows), nothing_grows),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_caught(mutant, monkeypatch, request):
    breaks, oracle = MUTANTS[mutant]
    needs = [request.getfixturevalue(name) for name in inspect.signature(oracle).parameters]
    breaks(monkeypatch)
    with pytest.raises(AssertionError):
        oracle(*needs)
