"""Sample sheets of what was trained so far: the autoencoder, the base, batch VACE on every family of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from latents import Codec
from PIL import Image
from sampling import sample
from text import FULL, NO_CAPTION, PLAIN, Prompts
from torch import Tensor, nn
from vae_parallel import decode

from vace_adapt.context.blocks import ContextPath
from vace_adapt.embedded.world.captions import caption
from vace_adapt.embedded.world.controls import CONTROLS
from vace_adapt.embedded.world.render import Clip, reference, render
from vace_adapt.embedded.world.scene import draw_scene
from vace_adapt.models.causal_wan import CausalWan

Array = np.ndarray[Any, Any]

SEEDS = (0, 1, 2, 3)
"""Of clips that no model is trained on."""

LATENT_FRAMES, SHOWN, ENLARGED = 6, (0, 6, 12, 20), 2


class Sampler:
    """Makes frames from latents and latents from frames.

    Args:
        vae: the autoencoder.
        statistics: of its latents.
    """

    def __init__(self, vae: AutoencoderKLWan, statistics: tuple[Tensor, Tensor]) -> None:
        self.codec = Codec(vae, statistics)

    @torch.no_grad()
    def frames(self, latents: Tensor) -> Array:
        """uint8 [T, H, W, 3] of normalised latents [C, F, h, w]."""
        pixels = decode(self.codec.vae, (latents * self.codec.deviation + self.codec.mean)[None])[0]
        return ((pixels.clamp(-1, 1).permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()

    def through(self, frames: Array) -> Array:
        """Frames encoded and decoded."""
        return self.frames(self.codec(frames.astype(np.float32)).float())


def vae_sheet(sampler: Sampler, file: Path) -> None:
    """Every kind of picture beside what comes out of it."""
    rows = []
    for seed in SEEDS:
        clip = _clip(seed)
        shown = [clip.frames, *(CONTROLS[name](clip) for name in CONTROLS), reference(clip.scene.things[-1])[None]]
        pairs = [(video[-1], sampler.through(video)[-1]) for video in shown]
        rows.append([picture for pair in pairs for picture in pair])
    save_sheet(rows, file)


def base_sheet(sampler: Sampler, base: CausalWan, encoder: nn.Module, file: Path) -> None:
    """Clips made from captions alone, beside the clips the captions are of."""
    clips = [_clip(seed) for seed in SEEDS]
    text, unprompted = _text(encoder, [(caption(clip.scene), "") for clip in clips], FULL)
    made = sample(base, text, unprompted, _noise(len(clips), LATENT_FRAMES))
    rows = [
        [*(clip.frames[t] for t in SHOWN), *(sampler.frames(latents)[t] for t in SHOWN)]
        for clip, latents in zip(clips, made, strict=True)
    ]
    save_sheet(rows, file)


def context_sheet(sampler: Sampler, base: CausalWan, encoder: nn.Module, path: ContextPath, file: Path) -> None:
    """Batch VACE under every structural control, without and with a reference; the captions do not name looks."""
    rows = []
    for name in CONTROLS:
        clips = [_clip(seed, puppet=True if name == "pose" else None) for seed in SEEDS[:2]]
        text = _text(encoder, [("", caption(clip.scene, appearance=False)) for clip in clips], PLAIN)
        control = torch.stack([_control(sampler.codec, CONTROLS[name](clip)) for clip in clips])
        alone = sample(base, *text, _noise(len(clips), LATENT_FRAMES), path=path, control=control)
        pictures = torch.stack([sampler.codec(reference(c.scene.things[0])[None].astype(np.float32)) for c in clips])
        front = torch.cat([pictures.float(), torch.zeros_like(control[:, 16:, :1])], dim=1)
        with_reference = sample(
            base,
            *text,
            _noise(len(clips), 1 + LATENT_FRAMES),
            path=path,
            control=torch.cat([front, control], dim=2),
            references=1,
        )
        row: list[Array] = []
        for i, clip in enumerate(clips):
            given = CONTROLS[name](clip)
            row += [clip.frames[20], given[20], *(sampler.frames(alone[i])[t] for t in SHOWN[1:])]
            row += [reference(clip.scene.things[0]), *(sampler.frames(with_reference[i])[t] for t in SHOWN[1:])]
        rows.append(row)
    save_sheet(rows, file)


def save_sheet(rows: Sequence[Sequence[Array]], file: Path) -> None:
    """Rows of pictures of one size, enlarged."""
    sheet = Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))
    size = (sheet.width * ENLARGED, sheet.height * ENLARGED)
    sheet.resize(size, Image.Resampling.NEAREST).save(file)


def _clip(seed: int, puppet: bool | None = None) -> Clip:
    return render(draw_scene(seed, 4 * LATENT_FRAMES - 3, puppet=puppet))


def _control(codec: Codec, frames: Array) -> Tensor:
    """Control latents [96, F, h, w] of a control video."""
    reactive, gray = codec(frames.astype(np.float32)).float(), codec(np.full(frames.shape, 127.5, np.float32)).float()
    return torch.cat([gray, reactive, torch.ones((64, *gray.shape[1:]))])


@torch.no_grad()
def _text(encoder: nn.Module, captions: list[tuple[str, str]], kind: int) -> tuple[Tensor, Tensor]:
    """Embeddings of the captions of a kind, and of none."""
    prompts, clips = Prompts(captions), torch.arange(len(captions))
    kinds = (torch.full((len(captions),), each) for each in (kind, NO_CAPTION))
    given, none = (prompts.embed(encoder, clips, each) for each in kinds)
    return given, none


def _noise(clips: int, frames: int) -> Tensor:
    return torch.randn((clips, 16, frames, 8, 8), generator=torch.Generator().manual_seed(0))
