"""Rows of the frames in front of a chunk.

The oracle: a chunk that is longer by those frames, whose latents are noised as theirs are, has the same hints. Long
chunks are held to diffusers' WanVACE in `test_batch_vace`.
"""

from __future__ import annotations

import pytest
import torch
from levels import close, equal, integral
from support import patch

from vace_adapt.context import past as past_module
from vace_adapt.context.chunk import ChunkContext
from vace_adapt.context.past import Past, PastFrames

from .conftest import CPU, FRAMES, GRID, LAYERS, STEPS, chunk_context, randn, references

TOKENS = 6
SIGMAS = (0.9, 0.7, 0.4, 0.2)
LATENTS, CONTROL, NOTHING = randn(1, 16, FRAMES, 4, 6, seed=1), *(randn(1, 96, FRAMES, 4, 6, seed=s) for s in (3, 2))


def past(count, seed=40):
    control, nothing = (randn(1, 96, count, 4, 6, seed=seed + i) for i in range(2))
    latents, noise = (randn(1, 16, count, 4, 6, seed=seed + 2 + i) for i in range(2))
    return Past(control, lambda: nothing, latents, noise)


def opened(tiny, form, count, scales=None, **scale):
    context = tiny.context(form, **scale)
    context.set_references(references(count) if count else None, scales)
    return context


def hints(tiny, context, before, *, fed=True, step=0, **options):
    """Hints of the chunk, with these frames in front of it."""
    made = chunk_context(context, CONTROL if fed else None, NOTHING, past=before, **options)
    source = made.source(step, SIGMAS[step])
    return {} if source is None else tiny.run(LATENTS, source, 1000 * SIGMAS[step])[1]


def of_one_sequence(tiny, context, before, *, fed=True, step=0):
    """The same of a chunk whose first frames are those in front; the last ones' hints."""
    sigma, whole = SIGMAS[step], before.count + FRAMES
    noised = (1 - sigma) * before.latents + sigma * before.noise
    control = torch.cat([before.control, CONTROL], dim=2) if fed else None
    made = chunk_context(context, control, torch.cat([before.nothing(), NOTHING], dim=2))
    source = made.source(step, sigma)
    found = tiny.run(torch.cat([noised, LATENTS], dim=2), source, 1000 * sigma)[1]
    assert all(hint.shape[1] == whole * TOKENS for hint in found.values())
    return {layer: hint[:, -FRAMES * TOKENS :] for layer, hint in found.items()}


def check_sequence(tiny):
    """For a single pass, and where scales differ, so that some passes are without the control."""
    for form in ("joint", "cached"):
        for count, scale in ((0, {}), (2, {}), (2, {"control": 0.5}), (2, {"control": 1.5})):
            for step in (0, STEPS - 1, -1):
                found = hints(tiny, opened(tiny, form, count, **scale), past(2), step=step)
                expected = of_one_sequence(tiny, opened(tiny, form, count, **scale), past(2), step=step)
                assert close(found, expected), (form, count, scale, step)


def check_without_control(tiny):
    for form in ("joint", "cached"):
        found = hints(tiny, opened(tiny, form, 1), past(2), fed=False)
        assert close(found, of_one_sequence(tiny, opened(tiny, form, 1), past(2), fed=False)), form


@pytest.mark.parametrize("form", ["joint", "cached"])
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("before", [1, 2, 5])
def test_past_rows_are_rows_of_one_sequence(tiny, form, count, before):
    found = hints(tiny, opened(tiny, form, count), past(before))
    assert all(hint.shape[1] == FRAMES * TOKENS for hint in found.values()), "hints of the chunk's rows alone"
    assert close(found, of_one_sequence(tiny, opened(tiny, form, count), past(before)))


def test_at_every_level_of_noise_and_of_scale(tiny):
    check_sequence(tiny)
    check_without_control(tiny)


def finished_latents(real):
    return lambda embed, latents, noise, sigma: real(embed, latents, noise, 0.0)


def noise_for_latents(real):
    return lambda embed, latents, noise, sigma: real(embed, noise, latents, sigma)


def out_of_order(real):
    return lambda embed, latents, noise, sigma: real(embed, latents.roll(1, 2), noise, sigma)


def positions_of_the_chunk_alone(real):
    """Past rows at the positions that come before: those of the references, or below 0."""

    def rotations(self, count):
        first = count if count and self._stream.form == "cached" else 0
        rope, frames = self._stream._rope, range(first - self._before, first + self._frames)
        return (*real(self, count)[:-1], rope.at(frames)) if self._stream.form == "cached" else real(self, count)

    return rotations


def hints_of_the_past(real):
    def blocks(self, *args):
        own, self._frames = self._frames, self._frames + self._before
        found = [hint[:, : own * TOKENS] for hint in real(self, *args)]
        self._frames = own
        return found

    return blocks


def past_of_the_control_everywhere(real):
    return lambda self, own, of_past: real(self, own, lambda held: held.control)


def nothing_of_the_past(real):
    return lambda self, own, of_past: real(self, own, lambda held: held.nothing())


@pytest.mark.parametrize(
    ("breaks", "oracle"),
    [
        (patch(past_module, "noised_tokens", finished_latents), check_sequence),
        (patch(past_module, "noised_tokens", noise_for_latents), check_sequence),
        (patch(past_module, "noised_tokens", out_of_order), check_sequence),
        (patch(ChunkContext, "_rotations_with", positions_of_the_chunk_alone), check_sequence),
        (patch(ChunkContext, "_blocks", hints_of_the_past), check_sequence),
        (patch(ChunkContext, "_with_past", past_of_the_control_everywhere), check_sequence),
        (patch(ChunkContext, "_with_past", past_of_the_control_everywhere), check_without_control),
        (patch(ChunkContext, "_with_past", nothing_of_the_past), check_sequence),
    ],
)
def test_another_past_is_noticed(tiny, monkeypatch, breaks, oracle):
    breaks(monkeypatch)
    with pytest.raises(AssertionError):
        oracle(tiny)


@pytest.mark.parametrize("form", ["joint", "cached"])
def test_a_past_of_no_frames_is_none_bit_for_bit(tiny, monkeypatch, form):
    expected = hints(tiny, opened(tiny, form, 1), None)
    monkeypatch.setattr(past_module, "noised_tokens", None)
    assert equal(hints(tiny, opened(tiny, form, 1), past(0)), expected)


def test_everything_of_the_past_is_felt(tiny):
    """What was given, what was made, its noise and its order."""
    own, other = past(2), past(2, seed=70)
    plain = hints(tiny, opened(tiny, "cached", 0), own)
    found = [
        hints(tiny, opened(tiny, "cached", 0), Past(*given))
        for given in (
            (other.control, own.nothing, own.latents, own.noise),
            (own.control, own.nothing, other.latents, own.noise),
            (own.control, own.nothing, own.latents, other.noise),
            (own.control.flip(2), own.nothing, own.latents.flip(2), own.noise.flip(2)),
        )
    ]
    assert not any(close(one, plain) for one in found)
    assert equal(
        hints(tiny, opened(tiny, "cached", 0), Past(own.control, other.nothing, own.latents, own.noise)), plain
    )


def test_what_is_remembered_of_references_is_what_it_was_bit_for_bit(tiny):
    kept = []
    for before in (None, past(0), past(2)):
        context = opened(tiny, "cached", 2)
        hints(tiny, context, before)
        kept.append({name: tensor.clone() for name, tensor in context.tensors().items() if "references" in name})
    assert kept[0].keys() == kept[1].keys() == kept[2].keys()
    assert all(torch.equal(kept[0][name], other[name]) for other in kept[1:] for name in kept[0])


def test_a_growing_past_makes_no_reference_row_anew(tiny, monkeypatch):
    context = opened(tiny, "cached", 2)
    hints(tiny, context, past(0))
    monkeypatch.setattr("vace_adapt.context.references.ReferenceRows.at", None)
    for before in (1, 2, 2):
        hints(tiny, context, past(before))


def test_scales_by_token_and_by_frame_are_the_chunks_own(tiny):
    full = hints(tiny, opened(tiny, "cached", 1), past(2))
    there = (torch.arange(18).reshape(1, 1, FRAMES, *GRID) % 3 == 0).float()
    found = hints(tiny, opened(tiny, "cached", 1, references=0.0), past(2), control_factors=there)
    alone = hints(tiny, opened(tiny, "cached", 0), past(2))
    assert all(torch.equal(found[layer], alone[layer] * there.reshape(1, -1, 1)) for layer in LAYERS)
    faded = hints(tiny, opened(tiny, "cached", 1, frames=(1.0, 0.5, 0.0)), past(2))
    factors = torch.tensor([1.0, 0.5, 0.0]).repeat_interleave(TOKENS)[None, :, None]
    assert all(torch.equal(faded[layer], full[layer] * factors) for layer in LAYERS)


@pytest.mark.parametrize("control", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("scales", [(0.3, 1.0), (0.2, 1.4, 0.7)])
def test_the_hint_is_the_integral_over_levels(tiny, control, scales):
    """Of streams that were given exactly what is heard: a control that is not has no past either."""
    held = references(len(scales))

    def given_alone(fed, heard):
        own = past(2)
        if not fed:
            own = Past(own.nothing(), own.nothing, own.latents, own.noise)
        context = tiny.context("cached")
        if heard:
            some = type(held)(held.control[:, :, heard], held.latents[:, :, heard], held.noise[:, :, : len(heard)])
            context.set_references(some)
        return hints(tiny, context, own, fed=fed)

    found = hints(tiny, opened(tiny, "cached", len(scales), scales, control=control), past(2))
    assert close(found, integral(given_alone, control, scales))


def test_hints_that_are_reused_are_those_with_the_past(tiny):
    expected = hints(tiny, opened(tiny, "cached", 1), past(2))
    made = chunk_context(opened(tiny, "cached", 1), CONTROL, NOTHING, past=past(2), hint_reuse=2)
    assert equal(tiny.run(LATENTS, made.source(0, SIGMAS[0]), 1000 * SIGMAS[0])[1], expected)
    assert equal(tiny.run(LATENTS + 1, made.source(1, SIGMAS[1]))[1], expected)


# --- the buffers ------------------------------------------------------------------------------------------------------


def kept(frames, dtype=torch.float32):
    return PastFrames(frames, (1, 16, 9, 4, 6), 96, dtype=dtype, control_dtype=torch.bfloat16, device=CPU)


def numbered(channels, start, count):
    numbers = torch.arange(start, start + count, dtype=torch.float32).view(1, 1, count, 1, 1)
    return numbers.expand(1, channels, count, 4, 6)


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 7])
def test_the_last_frames_are_kept_in_order_and_in_place(frames):
    held, end = kept(frames), 0
    assert held.before(0, 0, None).count == 0
    pointers = {name: tensor.data_ptr() for name, tensor in held.tensors().items()}
    before = []
    for count in (3, 1, 3, 3):
        held.push(*(numbered(channels, end, count) for channels in (96, 16, 16)))
        end += count
        found = held.before(end, 0, lambda *span: span)
        expected = [float(frame) for frame in range(max(0, end - frames), end)]
        for tensor in (found.control, found.latents, found.noise):
            assert tensor[0, -1, :, 2, 3].tolist() == expected
        assert found.nothing() == (max(0, end - frames), len(expected))
        before.append((found, expected))
    assert all(found.latents[0, 0, :, 0, 0].tolist() == expected for found, expected in before), "a copy, not a view"
    assert {name: tensor.data_ptr() for name, tensor in held.tensors().items()} == pointers
    assert sorted(pointers) == ["past.control", "past.latents", "past.noise"]


def test_buffers_have_the_dtypes_they_are_used_in():
    held = kept(2, torch.float16)
    held.push(*(numbered(channels, 0, 3) for channels in (96, 16, 16)))
    assert [tensor.dtype for tensor in held.tensors().values()] == [torch.bfloat16, torch.float16, torch.float16]
