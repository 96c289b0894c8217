"""Sections against tensors of diffusers' HeliosPipeline, and every mechanism broken once."""

from __future__ import annotations

import pytest
import torch
from support import golden, golden_names, patch

from vace_adapt.context import injection
from vace_adapt.parity.replay import replay
from vace_adapt_framepack import history, solver
from vace_adapt_framepack.wan import loop, model
from vace_adapt_framepack.wan import replay as replay_module

TOLERANCE = 1e-4
FILES = golden_names("helios_wan")


def test_the_cases_cover_what_matters():
    assert {"helios_wan/forward_packed_hints", "helios_wan/sections", "helios_wan/sections_hints_refs"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_equals_diffusers(name):
    found = replay(golden(name))
    assert found.worst < TOLERANCE, found.rows


def forgets(real):
    return lambda self, latents: None


def start_frame_is_lost(real):
    return lambda self, frame: None


def mid_and_far_turned(real):
    def pack(self):
        packed = real(self)
        return packed._replace(mid=packed.far[:, :, -2:], far=torch.cat([packed.mid] * 8, dim=2))

    return pack


def history_counts_from_one(real):
    def layout(*args):
        found = real(*args)
        return type(found)(found.noisy, tuple(i + 1 for i in found.clean), found.mid, found.far)

    return layout


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


def starts_at_one(real):
    return lambda start, *args, **options: real(1.0, *args, **options)


def modulation_of_the_history(real):
    return lambda args, kwargs: real(args, kwargs).__class__(
        real(args, kwargs).hidden, args[2][:, 0], real(args, kwargs).text
    )


MUTANTS = {
    "sections": [
        patch(history.PackedHistory, "push", forgets),
        patch(history.PackedHistory, "keep_start", start_frame_is_lost),
        patch(history.PackedHistory, "pack", mid_and_far_turned),
        patch(replay_module, "forward_layout", history_counts_from_one),
        patch(solver.np, "linspace", starts_at_one),
    ],
    "sections_hints_refs": [patch(injection.Attachment, "_adder", hints_on_the_first_rows)],
    "forward_packed_hints": [
        patch(injection.Attachment, "_adder", hints_on_the_first_rows),
        patch(model, "_read", modulation_of_the_history),
    ],
}


@pytest.mark.parametrize(("name", "mutant"), [(name, m) for name, found in MUTANTS.items() for m in found])
def test_what_is_broken_is_seen(name, mutant, monkeypatch):
    mutant(monkeypatch)
    assert replay(golden(f"helios_wan/{name}")).worst > TOLERANCE


def test_the_loop_is_the_one_that_streams():
    assert replay_module.HeliosLoop is loop.HeliosLoop
