"""Stage ``distil``: a student that makes a chunk in a few steps, by distribution matching.

The student runs its own steps on each chunk, re-noised between them as the pipeline does, given the clean chunks before
it. Its results are pulled along the difference of two scores at a random noise level: that of the guided causal model,
and that of a critic that learns what the student makes (Yin et al., Improved Distribution Matching Distillation for
Fast Image Synthesis, 2024; Huang et al., Self Forcing, 2025). Regression onto the sampling path is no way here: the
mean of many possible clips has no small things in it. No context block takes part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from base import squared
from batches import draw_sigma, noised
from causal import (
    CLIPS,
    FRAMES,
    Past,
    Window,
    by_chunk,
    copied,
    draw_captioned,
    draw_history,
    draw_positions,
    teacher_forced,
)
from latents import Latents
from muon import Optimizers
from sampling import guided
from text import NO_CAPTION, Prompts
from torch import Tensor, nn
from training import Training, cooled

from vace_adapt.models.causal_wan import CausalWan

STUDENT_RATES, CRITIC_RATES = (0.002, 2e-4), (0.006, 6e-4)
LEAST, MOST = 0.05, 0.95
"""Noise levels at which the two scores are compared."""

WARM = 40
"""First steps, in which the critic alone learns."""


def train_student(
    folder: Path,
    steps: int,
    latents: Latents,
    teacher: CausalWan,
    encoder: nn.Module,
    window: Window,
    sigmas: Sequence[float],
    device: str = "cpu",
) -> CausalWan:
    """Distil, or go on distilling, the causal model to the noise levels of a few-step pipeline."""
    prompts = Prompts(latents.captions)
    encoder.requires_grad_(False).to(device)
    teacher.requires_grad_(False).to(device)
    student, critic = copied(teacher).to(device), copied(teacher).to(device)
    pulls, fits = Optimizers([student], *STUDENT_RATES), Optimizers([critic], *CRITIC_RATES)
    parts = {"student": student, "critic": critic, "pulls": pulls, "fits": fits}
    training = Training(folder, steps, seed=5, parts=parts)
    mask = window.mask(FRAMES).to(device)
    unprompted = prompts.embed(encoder, torch.zeros(CLIPS, dtype=torch.long), torch.full((CLIPS,), NO_CAPTION))
    for generator in training:
        clean, text = draw_captioned(latents, prompts, encoder, generator, device)
        past = Past(draw_history(clean, generator), text, draw_positions(window, generator), mask)
        pulling = training.step >= WARM
        with torch.set_grad_enabled(pulling), torch.autocast(device, torch.bfloat16):
            made = rolled_out(student, past, clean, sigmas, generator)
        level = LEAST + (MOST - LEAST) * draw_sigma(CLIPS * FRAMES // window.chunk, generator)
        sample = noised(made.detach(), by_chunk(level, window.chunk).to(device), generator)
        sigma = by_chunk(level, window.chunk).to(device)
        if pulling:
            with torch.no_grad(), torch.autocast(device, torch.bfloat16):
                bare = past._replace(text=unprompted)
                real = guided(*(teacher_forced(teacher, each, sample.latents, sigma) for each in (past, bare)))
                fake = teacher_forced(critic, past, sample.latents, sigma)
            pull = pulled(made.detach(), sample.latents, sigma, real, fake, window.chunk)
            pulls.step(squared(made, made.detach() - pull) / 2, cooled(training.done))
            training.note(pull=pull.abs().mean())
        with torch.autocast(device, torch.bfloat16):
            loss = squared(teacher_forced(critic, past, sample.latents, sigma), sample.target)
        fits.step(loss, 1.0)
        training.note(critic=loss)
    return student.eval()


def rolled_out(
    student: CausalWan, past: Past, clean: Tensor, sigmas: Sequence[float], generator: torch.Generator
) -> Tensor:
    """What the student makes of noise after one to all of its steps, shaped as `clean`.

    The gradient goes through the last of the steps alone.
    """
    count = 1 + int(torch.randint(len(sigmas), (), generator=generator))
    made = torch.zeros_like(clean)
    for step, level in enumerate(sigmas[:count]):
        sigma = torch.full((len(clean), clean.shape[2]), level, device=clean.device)
        noisy = noised(made, sigma, generator).latents
        with torch.set_grad_enabled(torch.is_grad_enabled() and step == count - 1):
            made = noisy - level * teacher_forced(student, past, noisy, sigma)
    return made


def pulled(made: Tensor, noisy: Tensor, sigma: Tensor, real: Tensor, fake: Tensor, chunk: int) -> Tensor:
    """How far finished latents should move, [B, C, F, h, w]: the difference of the two estimates of what is clean,
    over how far the real one is off in each chunk.
    """
    level = sigma[:, None, :, None, None]
    off = (made - (noisy - level * real)).abs().unflatten(2, (-1, chunk)).mean(dim=(1, 3, 4, 5), keepdim=True)
    difference = (level * (real - fake)).unflatten(2, (-1, chunk))
    return (difference / off.clamp_min(1e-3)).flatten(2, 3)
