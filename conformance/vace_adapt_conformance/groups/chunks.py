"""Sizes of chunks, and what a chunk is made of."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from vace_adapt.errors import InputError
from vace_adapt_conformance.check import check, expect, expect_bits, expect_same
from vace_adapt_conformance.scripted import Run, Script
from vace_adapt_conformance.subject import Subject


@check("chunks")
def chunks_have_their_shapes(subject: Subject) -> None:
    """The first and every later chunk comes as [B, C, F, h, w] as declared, in the model's dtype, finite."""
    run = _run(subject)
    for index, latents in enumerate(run.make(3)):
        expected = run.shapes.latent_shape(1, index)
        expect(tuple(latents.shape) == expected, f"chunk {index} is {list(latents.shape)}, expected {list(expected)}")
        expect(
            latents.dtype == subject.pipe.parts.dtype,
            f"chunk {index} is {latents.dtype}, expected {subject.pipe.parts.dtype}",
        )
        expect(bool(torch.isfinite(latents).all()), f"chunk {index} has values that are not finite")


@check("chunks")
def shapes_follow_the_backbone(subject: Subject) -> None:
    """Latent size, channels, patch and strides are those of the backbone and of the size asked for."""
    backbone = subject.pipe.parts.backbone
    height, width = subject.height * 2, subject.width
    shapes = subject.hooks.chunk_shapes(subject.pipe.parts, height, width)
    for name, came, expected in (
        ("channels", shapes.channels, backbone.latent_channels),
        ("patch", shapes.patch, backbone.patch),
        ("stride", shapes.stride, backbone.stride),
        ("time.stride", shapes.time.stride, backbone.stride[0]),
        ("height", shapes.height, height // backbone.stride[1]),
        ("width", shapes.width, width // backbone.stride[2]),
    ):
        expect(came == expected, f"shapes.{name} is {came}, expected {expected}")


@check("chunks")
def sizes_that_do_not_fit_are_refused(subject: Subject) -> None:
    """A side that is no multiple of VAE stride times patch is an InputError with the number, not rounded."""
    rows, columns = subject.pipe.parts.backbone.unit
    for height, width, number in ((rows + 1, columns, rows + 1), (rows, 2 * columns - 1, 2 * columns - 1)):
        try:
            subject.hooks.chunk_shapes(subject.pipe.parts, height, width)
        except InputError as error:
            expect(str(number) in str(error), f"{height}x{width} is refused without the number {number}: {error}")
        else:
            raise AssertionError(
                f"{height}x{width} pixels were taken, expected an InputError: the unit is {rows}x{columns}"
            )


@check("chunks")
def frames_are_those_of_the_vae(subject: Subject) -> None:
    """Chunks decode to the pixel frames that the causal VAE's grouping gives them, in the size asked for."""
    with subject.pipe.stream(height=subject.height, width=subject.width) as session:
        for index in range(2):
            came = tuple(next(session).frames.shape)
            expected = (1, session.shapes.time.pixels(index), subject.height, subject.width, 3)
            expect(came == expected, f"chunk {index}: frames are {list(came)}, expected {list(expected)}")


@check("chunks")
def noise_is_the_chunks_own(subject: Subject) -> None:
    """The same noise gives the same bits, whatever the global generators hold, and these are left alone."""
    made = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            before = (torch.get_rng_state(), _numpy_state(), random.getstate())
            made.append(_run(subject).make(2))
            after = (torch.get_rng_state(), _numpy_state(), random.getstate())
        expect(torch.equal(before[0], after[0]), "the loop drew from torch's global generator: use chunk.noise")
        expect(bool((before[1] == after[1]).all()), "the loop drew from numpy's global generator: use chunk.noise")
        expect(before[2] == after[2], "the loop drew from Python's global generator: use chunk.noise")
    expect_same(made[1], made[0], "a stream of the same seed")


@check("chunks")
def every_draw_is_used(subject: Subject) -> None:
    """A chunk uses the noise draws 0 .. ``parts.draws - 1``, and no other."""
    run = _run(subject)
    run.make(2)
    for chunk in range(2):
        came = sorted({number for at, number in run.draws if at == chunk})
        expected = list(range(subject.pipe.parts.draws))
        expect(came == expected, f"chunk {chunk} used noise draws {came}, parts.draws says {expected}")


@check("chunks")
def rows_are_independent(subject: Subject) -> None:
    """Other noise in one row of a batch changes no bit of another row."""
    one, other = (_run(subject, Script(seeds=(4, seed))).make(2) for seed in (7, 8))
    for index in range(2):
        expect_bits(other[index][:1], one[index][:1], f"chunk {index}: row 0 beside another row 1")
        expect(not torch.equal(other[index][1:], one[index][1:]), f"chunk {index}: row 1 does not depend on its noise")


@check("chunks")
def a_row_is_a_stream(subject: Subject) -> None:
    """A batch of two equals two streams, to 1e-4."""
    both = _run(subject, Script(seeds=(4, 7), prompts={0: ("a red ball", "a dog")})).make(2)
    for row, (seed, prompt) in enumerate(((4, "a red ball"), (7, "a dog"))):
        alone = _run(subject, Script(seeds=(seed,), prompts={0: prompt})).make(2)
        for index in range(2):
            apart = float((both[index][row : row + 1] - alone[index]).abs().max())
            expect(apart < 1e-4, f"chunk {index}: row {row} of a batch is {apart:.3g} off its own stream")


@check("chunks", "preserve_latents")
def estimates_are_kept(subject: Subject) -> None:
    """Every estimate goes through ``chunk.keep``, and what comes back is used: in the next step and in the result."""

    def keep(chunk: int, latents: torch.Tensor) -> torch.Tensor:
        kept = latents.clone()
        kept[..., : latents.shape[-1] // 2] = 0.25
        return kept

    run = Run(subject.pipe, (subject.height, subject.width), Script(keep=keep), watch=True)
    for index, latents in enumerate(run.make(2)):
        steps = sum(one.chunk == index and one.step >= 0 for one in run.asked)
        count = len([at for at, _ in run.estimates if at == index])
        expect(
            count >= steps, f"chunk {index}: {count} estimates went through chunk.keep, expected one a step: {steps}"
        )
        left = latents[..., : latents.shape[-1] // 2]
        expect(
            bool((left == 0.25).all()), f"chunk {index}: what chunk.keep put in place is not in the finished latents"
        )
        levels = [one for one in run.asked if one.chunk == index and one.step >= 0]
        renoised = subject.pipe.parts.solver_steps is None
        for asked in levels[1:]:
            came = run.pass_of(index, asked.step).latents[..., : latents.shape[-1] // 2]
            noise = run.noise(index, asked.step if renoised else 0)[..., : latents.shape[-1] // 2]
            level = asked.sigma if renoised else asked.sigma / levels[0].sigma  # a solver goes straight from the noise
            apart = float((came - ((1 - level) * 0.25 + level * noise)).abs().max())
            expect(apart < 1e-3, f"chunk {index}, step {asked.step}: what chunk.keep put in place is {apart:.3g} off")


def _run(subject: Subject, script: Script | None = None) -> Run:
    return Run(subject.pipe, (subject.height, subject.width), script)


def _numpy_state() -> np.ndarray[Any, Any]:
    """A copy of the state of numpy's global generator."""
    state: Any = np.random.get_state()
    return state[1].copy()
