"""Stage ``causal_framepack``: the bidirectional base, fine-tuned to denoise a section beside a packed history.

Model, history and frame indices are those of FramePack's plugin. A history is made of the clip's true sections, hardly
noisy, so that a stream can live with its own mistakes. No context block takes part. The pipeline takes as many steps as
its base needs, so nothing is distilled.
"""

from __future__ import annotations

from pathlib import Path

import torch
from base import CAPTIONS, squared
from batches import draw_sigma, noised
from causal import draw_history
from diffusers import HeliosTransformer3DModel
from muon import Optimizers
from precision import autocast
from sections import COUNT, Sections
from text import Prompts, draw_captions
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from training import Training, cooled

from vace_adapt.contract import Backbone
from vace_adapt.embedded.family import FAMILY
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_framepack.history import Packed, PackedHistory
from vace_adapt_framepack.plan import forward_layout
from vace_adapt_framepack.settings import FramePackSettings
from vace_adapt_framepack.wan.loading import pooled_packing
from vace_adapt_framepack.wan.model import HeliosDenoiser, bare, helios_of

CLIPS = 6
"""For each number of sections before the one that is denoised."""


def train_packed(
    folder: Path,
    steps: int,
    sections: Sections,
    base: CausalWan,
    encoder: nn.Module,
    settings: FramePackSettings,
    device: str = "cpu",
    *,
    fast: bool = False,
) -> HeliosTransformer3DModel:
    """Fine-tune, or go on fine-tuning, the base with packing convolutions made of its patch embedding.

    Args:
        folder, steps: see `Training`.
        sections: what it learns from.
        base, encoder: not changed.
        settings: of the pipeline.
        device: where it trains.
        fast: run blocks as compiled graphs.
    """
    prompts = Prompts(sections.captions)
    encoder.requires_grad_(False).to(device)
    model = packing(base, FAMILY).to(device).requires_grad_(True)
    if fast:
        model.compile_repeated_blocks(dynamic=False)
    denoiser = HeliosDenoiser(
        model, bare, forward_layout(settings.chunk_latents, settings.history), torch.device(device)
    )
    optimizers = Optimizers([model], 0.006, 6e-4)
    training = Training(folder, steps, seed=8, parts={"model": model, "optimizers": optimizers})
    for generator in training:
        clips = torch.randint(len(sections), (COUNT * CLIPS,), generator=generator)
        text = prompts.embed(encoder, clips, draw_captions(len(clips), CAPTIONS, generator))
        clean, packed = draw_packed(sections.video[clips].float(), settings, generator)
        sigma = draw_sigma(len(clips), generator)
        sample = noised(clean, sigma.expand(-1, clean.shape[2]), generator)
        with autocast(device), sdpa_kernel(SDPBackend.MATH):
            given = Packed(*(each.to(device) for each in packed))
            made = denoiser(sample.latents.to(device), 1000 * sigma[:, 0].to(device), text, given, None)
        loss = squared(made.float(), sample.target.to(device))
        optimizers.step(loss, cooled(training.done))
        training.note(loss=loss)
    return model.eval()


def packing(base: CausalWan, backbone: Backbone) -> HeliosTransformer3DModel:
    """The base as Helios' class, with packing convolutions that average what they pack."""
    state = dict(base.state_dict())
    state["norm_out.scale_shift_table"] = state.pop("scale_shift_table")
    state.update(pooled_packing(state["patch_embedding.weight"], state["patch_embedding.bias"]))
    model = helios_of(backbone)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def draw_packed(video: Tensor, settings: FramePackSettings, generator: torch.Generator) -> tuple[Tensor, Packed]:
    """What is to be denoised and what is seen of the sections before it.

    Args:
        video: clips [COUNT*B, C, COUNT*F, h, w]. Of the first B their first section is denoised, after nothing; of the
            next B their second, and so on.
        settings: of the pipeline.
        generator: of the history's noise.

    Returns:
        Sections [COUNT*B, C, F, h, w], and their history.
    """
    noisy = draw_history(video, generator)
    clean, packed = [], []
    for index, (own, remembered) in enumerate(zip(video.chunk(COUNT), noisy.chunk(COUNT), strict=True)):
        before = remembered.split(settings.chunk_latents, dim=2)[:index]
        clean.append(own.split(settings.chunk_latents, dim=2)[index])
        packed.append(history_of(before, own, settings).pack())
    return torch.cat(clean), Packed(*(torch.cat(parts) for parts in zip(*packed, strict=True)))


def history_of(sections: tuple[Tensor, ...], like: Tensor, settings: FramePackSettings) -> PackedHistory:
    """A stream's memory after finished sections.

    Args:
        sections: [B, C, F, h, w] each.
        like: [B, C, any, h, w].
        settings: of the pipeline.
    """
    history = PackedHistory(tuple(like.shape), settings.history, dtype=like.dtype, device=like.device)
    history.begin()
    for section in sections:
        if history.end == 0:
            history.keep_start(section[:, :, :1])
        history.push(section)
    return history
