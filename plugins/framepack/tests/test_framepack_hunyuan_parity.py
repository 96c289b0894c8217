"""Sections against tensors of lllyasviel/FramePack, and every mechanism broken once."""

from __future__ import annotations

import pytest
from support import golden, golden_names, patch

from vace_adapt.context import injection
from vace_adapt.parity.replay import replay
from vace_adapt_framepack import history
from vace_adapt_framepack.hunyuan import model
from vace_adapt_framepack.hunyuan import replay as replay_module

TOLERANCE = 1e-4
FILES = golden_names("framepack_hunyuan")


def test_the_cases_cover_what_matters():
    assert {"framepack_hunyuan/sections_f1_hints", "framepack_hunyuan/sections_inverted_5"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_equals_the_official_code(name):
    found = replay(golden(name))
    assert found.worst < TOLERANCE, found.rows


def forgets(real):
    return lambda self, latents: None


def start_frame_is_lost(real):
    return lambda self, start=None: real(self, None)


def wrong_end(real):
    def init(self, *args, inverted, **options):
        real(self, *args, inverted=not inverted, **options)

    return init


def real_distances(real):
    return lambda sections: tuple(reversed(range(sections)))


def no_shift(real):
    return lambda steps, tokens: real(steps, 10 * tokens)


def guidance_not_scaled(real):
    return lambda self, model, layout, injecting, image, guidance: real(
        self, model, layout, injecting, image, guidance / 1000
    )


def hints_on_the_first_rows(real):
    def adder(self, layer, site):
        def add(module, args, output):
            hints = getattr(self._local, "hints", None) or {}
            if layer not in hints:
                return None
            hidden = site.hidden(output).clone()
            hidden[:, : hints[layer].shape[1]] += hints[layer]
            return site.write(output, hidden)

        return add

    return adder


def hints_for_the_text(real):
    return lambda output, hidden: (output[0], output[1] + 1)


MUTANTS = {
    "sections_f1": [
        patch(history.PackedHistory, "push", forgets),
        patch(history.PackedHistory, "begin", start_frame_is_lost),
        patch(replay_module, "framepack_solver", no_shift),
        patch(model.HunyuanDenoiser, "__init__", guidance_not_scaled),
    ],
    "sections_inverted": [patch(history.PackedHistory, "__init__", wrong_end)],
    "sections_inverted_5": [patch(replay_module, "paddings", real_distances)],
    "forward_inverted_hints": [patch(model, "_write", hints_for_the_text)],
    "sections_f1_hints": [patch(injection.Attachment, "_adder", hints_on_the_first_rows)],
}


@pytest.mark.parametrize(("name", "mutant"), [(name, m) for name, found in MUTANTS.items() for m in found])
def test_what_is_broken_is_seen(name, mutant, monkeypatch):
    mutant(monkeypatch)
    assert replay(golden(f"framepack_hunyuan/{name}")).worst > TOLERANCE
