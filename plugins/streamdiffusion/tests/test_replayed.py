"""The native StreamDiffusionV2 against tensors of the official code, chunk by chunk; and every mechanism broken once."""

from __future__ import annotations

import pytest
import torch
from support import golden, golden_names, patch

from vace_adapt.models import causal_wan, schedule
from vace_adapt.parity.golden import read_golden
from vace_adapt.parity.replay import replay
from vace_adapt_streamdiffusion import loop, native, order, ring, start
from vace_adapt_streamdiffusion import replay as replay_module
from vace_adapt_streamdiffusion.positions import Positions
from vace_adapt_streamdiffusion.ring import AdaptiveRing
from vace_adapt_streamdiffusion.ring_layer import LayerRing
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings

TOLERANCE = 1e-4
FILES = golden_names("streamdiffusion")


def test_the_cases_cover_what_matters():
    names = ("stream", "stream_4step", "stream_hints", "wo_batch_ring_refresh", "wo_batch_hints")
    assert {f"streamdiffusion/{name}" for name in names} < set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_equals_the_official_code(name):
    found = replay(golden(name))
    labels = [label for label, _ in found.rows]
    assert {"cache order", "cache 0.k", "cache 1.v"} < set(labels)
    assert found.worst < TOLERANCE, found.rows


def test_noise_scales_are_the_official_ones():
    """The files were made with motions of 0, 1/4, 1/2 and 3/4 of the fastest."""
    settings, scale = StreamDiffusionSettings(name="streamdiffusion"), 0.8
    for chunk, (expected, step) in enumerate(
        read_golden(golden("streamdiffusion/stream")).value("noise_schedule")[1:], 1
    ):
        scale = start.next_scale(settings, scale, 0.2 * (chunk % 4) / 4)
        assert scale == pytest.approx(expected, abs=1e-12)
        assert int(1000 * scale) - settings.step_offset == step
    assert start.next_scale(settings, 0.8, 5.0) == start.next_scale(settings, 0.8, 0.2), "nothing is faster than that"


def spec(**changed):
    """Another ring than the settings ask for."""
    return patch(replay_module, "ring_spec", lambda real: lambda settings: real(settings)._replace(**changed))


def settings(**changed):
    return patch(replay_module, "_settings", lambda real: lambda file: real(file).model_copy(update=changed))


def built(**changed):
    """A loop with something else than the replay asks for."""
    return patch(
        loop.StreamDiffusionLoop,
        "__init__",
        lambda real: lambda self, *args, **options: real(self, *args, **{**options, **changed}),
    )


def the_likest_goes(real):
    def unlike(self, key, value):
        found = real(self, key, value)
        return found and found._replace(end=torch.ones_like(found.end))

    return unlike


def only_keys_are_compared(real):
    return lambda self, key, value: real(self._replace(values=self.keys), key, key)


def everything_is_seen(real):
    return lambda *args: None


def nothing_is_spread(real):
    def spread(self):
        self._filled = [self._filled[0]] * len(self._filled)

    return spread


def in_turn_from_the_end(real):
    return lambda order, ends: real(order, ends.flip(0))


def positions_from_zero(real):
    return lambda self, start: (0, 0)


def first_step_as_listed(real):
    return lambda self, work: (self._schedule.timesteps[work.step],) * work.noisy.shape[0]


def of_the_neighbour(real):
    """Every chunk gets the hints of the one beside it."""
    return lambda sources: real(sources[::-1])


def only_the_first(real):
    return lambda sources: real([sources[0], *[None] * (len(sources) - 1)])


def hints_in_front_of_the_block(real):
    def forward(self, latents, timestep, text, layer_cache, hints=None):
        if hints is None:
            return real(self, latents, timestep, text, layer_cache)
        early = lambda inputs: {layer - 1: hint for layer, hint in hints(inputs).items() if layer}  # noqa: E731
        return real(self, latents, timestep, text, layer_cache, early)

    return forward


def one_timestep_for_all(real):
    return lambda self, latents, timesteps, *others: real(self, latents, timesteps[:1].expand(len(timesteps)), *others)


def noise_of_the_step_before(real):
    return lambda self, draw: real(self, max(draw - 1, 1) if draw else 0)


MUTANTS = {
    "no sink refresh": (spec(threshold=-1), "stream"),
    "another threshold": (spec(threshold=0.99), "stream_no_sink_refresh"),
    "a smaller sink": (spec(sink=2), "stream"),
    "another sink frame goes": (patch(LayerRing, "_unlike", the_likest_goes), "stream_4step"),
    "only keys are compared": (patch(LayerRing, "_unlike", only_keys_are_compared), "stream"),
    "slots behind a small sink go": (spec(ends=(3, 4, 5)), "stream_no_sink_refresh"),
    "slots go in another turn": (patch(order, "_in_turn", in_turn_from_the_end), "wo_batch_no_sink_refresh"),
    "one slot for each chunk": (spec(official=False), "wo_batch_no_sink_refresh"),
    "only frames that are there are compared": (spec(official=False), "stream"),
    "a slot in every pass": (spec(steps=1), "wo_batch_no_sink_refresh"),
    "rows without a chunk wait": (built(warm_up=None), "stream_4step"),
    "slots that are empty are seen": (patch(ring, "mask", everything_is_seen), "stream_no_sink_refresh"),
    "rows begin without chunk 0": (patch(AdaptiveRing, "spread", nothing_is_spread), "stream"),
    "positions do not advance": (patch(Positions, "__call__", positions_from_zero), "stream"),
    "positions do not begin again": (settings(position_limit=None), "wo_batch_ring_refresh"),
    "cached keys move along": (settings(position_refresh="move"), "wo_batch_ring_refresh"),
    "the first timestep is the listed one": (
        patch(loop.StreamDiffusionLoop, "_timesteps", first_step_as_listed), "stream",
    ),
    "all rows at one timestep": (patch(native.NativeDenoiser, "__call__", one_timestep_for_all), "stream"),
    "no renoise": (patch(schedule.FewStepSchedule, "renoise", lambda real: lambda self, c, n, s: c), "wo_batch"),
    "noise of another step": (patch(replay_module.GoldenChunk, "noise", noise_of_the_step_before), "stream_4step"),
    "the video alone": (patch(replay_module, "mixed", lambda real: lambda n, v, s: real(n, v, [0.0])), "wo_batch"),
    "hints of the chunk beside": (patch(loop, "together", of_the_neighbour), "stream_hints"),
    "hints of the first row only": (patch(loop, "together", only_the_first), "stream_hints"),
    "hints one block early": (patch(causal_wan.CausalWan, "forward", hints_in_front_of_the_block), "wo_batch_hints"),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_caught(mutant, monkeypatch):
    breaks, name = MUTANTS[mutant]
    breaks(monkeypatch)
    assert replay(golden(f"streamdiffusion/{name}")).worst > 10 * TOLERANCE
