"""The native LongLive against tensors of the official code, chunk by chunk; and every mechanism broken once."""

from __future__ import annotations

import pytest
from support import golden, golden_names, patch

from vace_adapt.attention import rope
from vace_adapt.cache import ring
from vace_adapt.models import causal_wan, schedule
from vace_adapt.parity.replay import replay
from vace_adapt_longlive import loop, native
from vace_adapt_longlive import replay as replay_module

TOLERANCE = 1e-4
FILES = golden_names("longlive") + golden_names("selfforcing")


def test_the_cases_cover_what_matters():
    assert {"longlive/window12_sink3", "longlive/infinity_switch", "longlive/hints_switch"} < set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_equals_the_official_code(name):
    found = replay(golden(name))
    assert any(label.startswith("cache") for label, _ in found.rows)
    assert found.worst < TOLERANCE, found.rows


def spec(**changed):
    """Another ring than the file asks for."""

    def change(real):
        return lambda *args, **options: real(*args, **{**options, **changed})

    return patch(replay_module, "RingSpec", change)


def evicts_another(real):
    return lambda self, frame: real(self, frame if frame < self.spec.slots else frame + 1)


def query_not_rotated(real):
    return lambda self, query, key, value: real(
        self._replace(query_rotation=self.query_rotation._replace(sin=self.query_rotation.sin * 0)), query, key, value
    )


def positions_from_zero(real):
    return lambda self, frames: real(self, [0 for _ in frames])


def slots_not_ranks(real):
    def passed(self, start, frames, places):
        found = real(self, start, frames, places)
        return (
            found
            if found.keys is None
            else found._replace(keys=self.rope.at(range(found.visible // self.frame_tokens)))
        )

    return passed


def no_clean_pass(real):
    def run(self, chunk):
        class Skips:
            def __call__(this, latents, timestep, start, hints):
                if timestep == self.context_noise:
                    return None
                return self.denoiser(latents, timestep, start, hints)

            def remember(this, latents):
                self.denoiser.remember(latents)

        return real(loop.LongLiveLoop(Skips(), self.schedule, self.context_noise), chunk)

    return run


def clean_pass_at_the_last_step(real):
    def init(self, denoiser, schedule, context_noise):
        real(self, denoiser, schedule, schedule.timesteps[-1])

    return init


def no_renoise(real):
    return lambda self, clean, noise, sigma: clean


def renoise_one_step_late(real):
    return lambda self, clean, noise, sigma: real(self, clean, noise, sigma * 0.9)


def no_recache(real):
    return lambda self, *args, **options: None


def sink_rule_turned(real):
    return lambda self, timestep, keep_sink, hints: real(self, timestep, keep_sink=not keep_sink, hints=hints)


def causal_recache(real):
    """Only the newest chunk is recached."""

    def newest(self):
        start, latents = real(self)
        return start + latents.shape[2] - 1, latents[:, :, -1:]

    return newest


def prompt_stays(real):
    def set_prompt(self, embeds):
        if not self.cache.text._layers:
            real(self, embeds)

    return set_prompt


def hints_in_front_of_the_block(real):
    def forward(self, latents, timestep, text, layer_cache, hints=None):
        if hints is None:
            return real(self, latents, timestep, text, layer_cache)
        early = lambda inputs: {layer - 1: hint for layer, hint in hints(inputs).items() if layer}  # noqa: E731
        return real(self, latents, timestep, text, layer_cache, early)

    return forward


def hints_everywhere(real):
    """The hints of the last denoise step also in the clean pass."""
    return lambda self, sigma: self.denoising(self._steps - 1, sigma)


def timestep_halved(real):
    return lambda self, timestep, batch: real(self, timestep / 2, batch)


MUTANTS = {
    "no sink": (spec(sink=0), "longlive/window12_sink3"),
    "a shorter window": (spec(slots=9), "longlive/window12_sink3"),
    "another frame is evicted": (patch(ring.RingCache, "_slot", evicts_another), "longlive/window12_sink3"),
    "sink is not protected": (spec(protect_sink=False), "longlive/sink4_switches"),
    "sink is not padded": (spec(pad_sink=False), "longlive/chunk1_sink3"),
    "sink is protected": (spec(protect_sink=True), "selfforcing/sink4"),
    "sink is padded": (spec(pad_sink=True), "selfforcing/sink4"),
    "absolute for relative": (spec(relative=False), "longlive/infinity"),
    "relative for absolute": (spec(relative=True), "longlive/window12_sink3"),
    "query is not rotated": (patch(ring.LayerCache, "attend", query_not_rotated), "longlive/window6_sink2"),
    "positions do not advance": (patch(rope.RotaryGrid, "at", positions_from_zero), "longlive/window6_sink2"),
    "keys rotated by slot": (patch(ring.RingCache, "_pass_of", slots_not_ranks), "longlive/infinity_window7_switch"),
    "no clean pass": (patch(loop.LongLiveLoop, "run", no_clean_pass), "longlive/window6_sink2"),
    "clean pass is noisy": (
        patch(loop.LongLiveLoop, "__init__", clean_pass_at_the_last_step), "longlive/window6_sink2",
    ),
    "context noise is ignored": (
        patch(loop.LongLiveLoop, "__init__", lambda real: lambda self, d, s, noise: real(self, d, s, 0.0)),
        "longlive/context_noise100",
    ),
    "no renoise": (patch(schedule.FewStepSchedule, "renoise", no_renoise), "longlive/window6_sink2"),
    "wrong noise level": (patch(schedule.FewStepSchedule, "renoise", renoise_one_step_late), "longlive/window6_sink2"),
    "wrong timestep": (patch(schedule.FewStepSchedule, "tensor", timestep_halved), "longlive/window6_sink2"),
    "no recache": (patch(native.NativeDenoiser, "recache", no_recache), "longlive/switch_late_global_sink"),
    "sink kept though it should not": (
        patch(native.NativeDenoiser, "recache", sink_rule_turned), "longlive/switch_late_no_global_sink",
    ),
    "sink rewritten though it should not": (
        patch(native.NativeDenoiser, "recache", sink_rule_turned), "longlive/switch_late_global_sink",
    ),
    "recache of the newest frame only": (
        patch(replay_module.RecentLatents, "newest", causal_recache), "longlive/switch_early_global_sink",
    ),
    "prompt is not taken over": (patch(native.NativeDenoiser, "set_prompt", prompt_stays), "longlive/batch2"),
    "hints one block early": (
        patch(causal_wan.CausalWan, "forward", hints_in_front_of_the_block), "longlive/hints_denoise_only",
    ),
    "hints in the clean pass": (
        patch(replay_module.GoldenChunk, "clean_pass", hints_everywhere), "longlive/hints_switch",
    ),
    "no hints in the recache": (
        patch(replay_module.GoldenChunk, "recaching", lambda real: lambda self: None), "longlive/hints_every_pass",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_caught(mutant, monkeypatch):
    breaks, name = MUTANTS[mutant]
    breaks(monkeypatch)
    assert replay(golden(name)).worst > 10 * TOLERANCE
