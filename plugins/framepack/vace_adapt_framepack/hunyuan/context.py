"""Context blocks for FramePack on HunyuanVideo, in the manner of VACE: copies of some of its blocks beside it.

No such weights are released. Fresh ones end in projections of zeros and change no bit of what the base makes; trained
ones come from the user. Wan's VACE weights can not take their place: other widths, other kinds of blocks, another VAE,
other text and other rotary positions.

A row starts as the projected control token plus the section's own token. The blocks have a copy of the text stream that
is dropped at the end, and the section's own rotary positions: unlike Wan, HunyuanVideo is not indifferent to where a
video begins, since its text has no position.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from vace_adapt.contract import BlockInputs, Hints
from vace_adapt_framepack.hunyuan.parts import HunyuanInputs

CONTROL_CHANNELS = 96
"""Inactive and reactive latents of 16 channels each, and a mask channel for every pixel of a latent position."""


def context_layers(blocks: int, hints: int = 8) -> tuple[int, ...]:
    """Evenly spread blocks that receive hints; 8 of 60 are VACE-14B's 0, 5, ..., 35 of 40 by depth."""
    return tuple(i * blocks // hints for i in range(hints))


class HunyuanContext(nn.Module):
    """Control embedding and context blocks.

    Args:
        blocks: copies of the base's blocks by their number, dual ones and single ones; block 0 is among them.
        width: of the model.
        patch: latent frames, rows and columns of a token.
    """

    def __init__(self, blocks: Mapping[int, nn.Module], width: int, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.layers = tuple(sorted(blocks))
        self.context_embed = nn.Conv3d(CONTROL_CHANNELS, width, kernel_size=patch, stride=patch)
        self.before_proj = nn.Linear(width, width)
        self.blocks = nn.ModuleDict({str(layer): blocks[layer] for layer in self.layers})
        self.after_proj = nn.ModuleDict({str(layer): nn.Linear(width, width) for layer in self.layers})

    @classmethod
    def beside(cls, model: Any, layers: Sequence[int]) -> HunyuanContext:
        """Fresh blocks beside a base, of its dtype and on its device: copies that add nothing."""
        every = [*model.transformer_blocks, *model.single_transformer_blocks]
        embedding = model.x_embedder.proj
        chosen = {layer: copy.deepcopy(every[layer]) for layer in layers}
        made = cls(chosen, embedding.out_channels, tuple(embedding.kernel_size))
        fresh: list[Any] = [made.before_proj, *made.after_proj.values()]
        for projection in fresh:
            nn.init.zeros_(projection.weight)
            nn.init.zeros_(projection.bias)
        return made.to(embedding.weight.device, embedding.weight.dtype).eval().requires_grad_(False)

    def forward(self, inputs: BlockInputs, control: Tensor) -> Hints:
        """Hints of a pass by block.

        Args:
            inputs: what enters block 0.
            control: control latents [B, 96, F, h, w] of the section.
        """
        assert isinstance(inputs, HunyuanInputs)
        tokens = rearrange(self.context_embed(control), "b d f h w -> b (f h w) d")
        own, text = tokens.shape[1], inputs.text
        rows = self.before_proj(tokens) + inputs.hidden[:, -own:]
        rotation = _last(inputs.rotation, own)
        mask = without_rows(inputs.mask, inputs.hidden.shape[1] - own)
        hints = {}
        for layer in self.layers:
            rows, text = self.blocks[str(layer)](rows, text, inputs.modulation[:, 0], mask, rotation)
            hints[layer] = self.after_proj[str(layer)](rows)
        return hints


def _last(rotation: Any, rows: int) -> Any:
    """The rotary positions of the last rows: of a pair [N, d], or of one tensor [B, N, 2d]."""
    if isinstance(rotation, tuple):
        return tuple(part[-rows:] for part in rotation)
    return rotation[:, -rows:]


def without_rows(mask: Any, rows: int) -> Any:
    """The mask of the joint attention for sequences without their first `rows` video tokens.

    Args:
        mask: of `HunyuanInputs`. The official class gives the spans of what attends to itself, end to end over all
            batch rows: video and prompt of a row, then its padding.
        rows: how many.
    """
    if mask is None:
        return None
    if not isinstance(mask, tuple):
        return mask[..., rows:]
    ends, _, longest, _ = mask
    if ends is None:
        return mask
    shorter = ends - rows * ((torch.arange(len(ends), dtype=ends.dtype, device=ends.device) + 1) // 2)
    return shorter, shorter, longest - rows, longest - rows


def control_of(video: Tensor, nothing: Tensor) -> Tensor:
    """Control latents of frames that steer everywhere.

    Args:
        video: their latents [B, 16, F, h, w].
        nothing: latents of gray frames, the same shape.
    """
    batch, _, frames, height, width = video.shape
    mask = torch.ones((batch, CONTROL_CHANNELS - 32, frames, height, width), dtype=video.dtype, device=video.device)
    return torch.cat([nothing, video, mask], dim=1)
