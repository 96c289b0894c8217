"""Stages ``base`` and ``context``: a bidirectional Wan, and VACE context blocks on that base, frozen."""

from __future__ import annotations

from pathlib import Path

import torch
from batches import LENGTHS, draw_clips, draw_sigma, noised
from draws import Draw
from latents import Latents
from muon import Optimizers
from network import flow
from precision import autocast
from text import Prompts, draw_captions, new_text_encoder
from torch import Tensor, nn
from training import Training, cooled

from vace_adapt.context.blocks import ContextPath
from vace_adapt.embedded.family import FAMILY, FAMILY_CONTROL_LAYERS
from vace_adapt.models.causal_wan import CausalWan

MUON, ADAM = 0.015, 2e-3
CAPTIONS = (0.6, 0.3, 0.1)
"""Shares of full captions, captions without appearance, and none."""


def train_base(folder: Path, steps: int, latents: Latents, device: str = "cpu") -> tuple[CausalWan, nn.Module]:
    """Train, or go on training, the base model with its text encoder."""
    prompts = Prompts(latents.captions)
    base, encoder = new_base(prompts.words)
    base.to(device), encoder.to(device)
    optimizers = Optimizers([base, encoder], MUON, ADAM)
    training = Training(folder, steps, seed=2, parts={"base": base, "text": encoder, "optimizers": optimizers})
    for generator in training:
        clips, frames = draw_clips(latents, training.step, LENGTHS, generator)
        text = prompts.embed(encoder, clips, draw_captions(len(clips), CAPTIONS, generator))
        clean = latents.video[clips, :, :frames].float().to(device)
        sigma = draw_sigma(len(clips), generator).expand(-1, frames).to(device)
        sample = noised(clean, sigma, generator)
        with autocast(device):
            made = flow(base, sample.latents, sigma, text, range(frames))
        loss = squared(made, sample.target)
        optimizers.step(loss, cooled(training.done))
        training.note(loss=loss)
    return base.eval(), encoder.eval()


def train_context(
    folder: Path,
    steps: int,
    seed: int,
    draw: Draw,
    base: CausalWan,
    path: ContextPath,
    device: str = "cpu",
    rate: float = 1.0,
) -> ContextPath:
    """Train, or go on training, context blocks, at a share of the learning rates. The base does not change."""
    base.requires_grad_(False).to(device)
    path.requires_grad_(True).to(device)
    optimizers = Optimizers([path], MUON, ADAM)
    training = Training(folder, steps, seed=seed, parts={"context": path, "optimizers": optimizers})
    for generator in training:
        batch = draw(training.step, generator)
        clean, control, text = batch.clean.to(device), batch.control.to(device), batch.text.to(device)
        sigma = batch.sigma.expand(-1, clean.shape[2]).to(device)
        sample = noised(clean, sigma, generator)
        with autocast(device):
            made = flow(base, sample.latents, sigma, text, range(clean.shape[2]), path=path, control=control)
        loss = squared(made, sample.target)
        if batch.area is not None:
            loss = loss + squared_within(made, sample.target, batch.area.to(device))
        optimizers.step(loss, rate * cooled(training.done))
        training.note(**{batch.kind: loss})
    return path.eval()


def new_base(words: int) -> tuple[CausalWan, nn.Module]:
    """Fresh weights; the base predicts no flow at first."""
    torch.manual_seed(2)
    base, encoder = CausalWan.of(FAMILY), new_text_encoder(words)
    with torch.no_grad():
        base.proj_out.weight.zero_()
        base.proj_out.bias.zero_()
        for block in base.blocks:
            block.scale_shift_table.mul_(0.3)
    return base, encoder


def new_context(base: CausalWan) -> ContextPath:
    """Copies of the base's own blocks that make no hint at first, as VACE begins."""
    torch.manual_seed(3)
    path = ContextPath(FAMILY, FAMILY_CONTROL_LAYERS)
    with torch.no_grad():
        for layer, block in zip(path.layers, path.vace_blocks, strict=True):
            block.load_state_dict({**block.state_dict(), **base.blocks[layer].state_dict()})
            block.proj_out.weight.zero_()
            block.proj_out.bias.zero_()
        path.vace_blocks[0].proj_in.weight.zero_()
        path.vace_blocks[0].proj_in.bias.zero_()
        path.vace_patch_embedding.weight.normal_(0, 0.03)
    return path.requires_grad_(True)


def squared(made: Tensor, target: Tensor) -> Tensor:
    return ((made - target) ** 2).mean()


def squared_within(made: Tensor, target: Tensor, area: Tensor) -> Tensor:
    """The same in an area [B, F, h, w] of the last F of the latent frames."""
    error = ((made - target) ** 2)[:, :, -area.shape[1] :].mean(dim=1)
    return (error * area).sum() / area.sum().clamp(min=1)
