"""Stages ``distil_*``: students that make a chunk in a few steps, by distribution matching.

A student runs its own steps on each chunk, re-noised between them as the pipeline does. Its results are pulled along
the difference of two scores at a random noise level: that of a guided teacher, and that of a critic that learns what
the student makes (Yin et al., Improved Distribution Matching Distillation for Fast Image Synthesis, 2024; Huang et al.,
Self Forcing, 2025). Regression onto the sampling path is no way here: the mean of many possible clips has no small
things in it. No context block takes part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from base import squared
from batches import noised
from causal import CLIPS, FRAMES, Past, Window, copied, draw_captioned, draw_levels, draw_past, streamed
from latents import Latents
from muon import Optimizers
from precision import autocast
from sampling import guided
from text import NO_CAPTION, Prompts
from torch import Tensor, nn
from torch.nn import functional as F
from training import Training, cooled

from vace_adapt.models.causal_wan import CausalWan

STUDENT_RATES, CRITIC_RATES = (0.002, 2e-4), (0.006, 6e-4)
LEAST, MOST = 0.05, 0.95
"""Noise levels at which the two scores are compared."""

FIRSTS = 0.4
"""Share of steps in which every chunk is a stream's first, since what is not in that one rarely comes later. Where a
clip is rolled out from its own first chunk there are none.
"""

WARM = 40
"""First steps, in which the critic alone learns."""


def train_student(
    folder: Path,
    steps: int,
    latents: Latents,
    teacher: CausalWan,
    start: CausalWan,
    encoder: nn.Module,
    window: Window,
    sigmas: Sequence[float],
    device: str = "cpu",
) -> CausalWan:
    """Distil, or go on distilling, a student.

    Args:
        folder: of the training.
        steps: of it.
        latents: clips.
        teacher: the score that is matched. Where chunks remember clean ones it sees through the window as the student
            does; otherwise it sees whole clips.
        start: what the student begins as.
        encoder: of prompts.
        window: of the pipeline.
        sigmas: noise levels of its steps, the first one first.
        device: where all of it runs.
    """
    prompts = Prompts(latents.captions)
    encoder.requires_grad_(False).to(device)
    teacher.requires_grad_(False).to(device)
    student, critic = copied(start).to(device), copied(teacher).to(device)
    pulls, fits = Optimizers([student], *STUDENT_RATES), Optimizers([critic], *CRITIC_RATES)
    parts = {"student": student, "critic": critic, "pulls": pulls, "fits": fits}
    training = Training(folder, steps, seed=5, parts=parts)
    unprompted = prompts.embed(encoder, torch.zeros(CLIPS, dtype=torch.long), torch.full((CLIPS,), NO_CAPTION))
    for generator in training:
        clean, text = draw_captioned(latents, prompts, encoder, generator, device)
        past = draw_past(window, clean, text, generator, firsts=FIRSTS if window.clean else 0.0)
        pulling = training.step >= WARM
        with torch.set_grad_enabled(pulling), autocast(device):
            made = rolled_out(student, past, clean, sigmas, generator)
        sigma = (LEAST + (MOST - LEAST) * draw_levels(window, generator)).to(device)
        sample = noised(made.detach(), sigma, generator)
        judged = past if window.clean else past._replace(mask=None, positions=range(FRAMES))
        if pulling:
            with torch.no_grad(), autocast(device):
                free = judged._replace(text=unprompted)
                real = guided(*(streamed(teacher, each, sample.latents, sigma) for each in (judged, free)))
                fake = streamed(critic, judged, sample.latents, sigma)
            pull = pulled(made.detach(), sample.latents, sigma, real, fake, window)
            pulls.step(squared(made, made.detach() - pull) / 2, cooled(training.done))
            training.note(pull=pull.abs().mean())
        with autocast(device):
            loss = squared(streamed(critic, judged, sample.latents, sigma), sample.target)
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
            made = noisy - level * streamed(student, past, noisy, sigma)
    return made


def pulled(made: Tensor, noisy: Tensor, sigma: Tensor, real: Tensor, fake: Tensor, window: Window) -> Tensor:
    """How far finished latents should move, [B, C, F, h, w]: the difference of the two estimates of what is clean,
    over how far the real one is off in each chunk.
    """
    level = sigma[:, None, :, None, None]
    off = (made - (noisy - level * real)).abs().mean(dim=(1, 3, 4))
    chunks = F.one_hot(window.numbers(off.shape[1])).to(off)
    off = off @ chunks / chunks.sum(0) @ chunks.T
    return level * (real - fake) / off.clamp_min(1e-3)[:, None, :, None, None]
