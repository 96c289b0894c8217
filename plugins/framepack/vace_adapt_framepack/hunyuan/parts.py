"""What the backend loads and what its model is given, besides latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from vace_adapt.contract import BlockInputs, PipelineParts

if TYPE_CHECKING:
    from vace_adapt_framepack.hunyuan.context import HunyuanContext


class HunyuanPrompt(NamedTuple):
    """Prompts as the model takes them.

    Attributes:
        tokens: [B, T, text_dim] of the language model, zero behind a prompt's end.
        mask: int64 [B, T]: 1 for a prompt's own tokens, of which there is at least one.
        pooled: [B, P] of CLIP.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> HunyuanPrompt:
        """On a device, the embeddings in a dtype."""
        return HunyuanPrompt(self.tokens.to(device, dtype), self.mask.to(device), self.pooled.to(device, dtype))


@dataclass(frozen=True)
class HunyuanParts(PipelineParts):
    """The parts of this backend.

    Attributes:
        image_encoder: pixels [B, 3, H, W] in [-1, 1] to the start picture's tokens [B, n, image_dim].
        context: context blocks; None for none.
    """

    image_encoder: Callable[[Tensor], Tensor] | None = None
    context: HunyuanContext | None = None


@dataclass(frozen=True)
class HunyuanInputs(BlockInputs):
    """What enters block 0.

    Attributes:
        hidden: [B, N, D] of all video tokens; the section's are the last ones.
        modulation: [B, 1, D]: one vector for every block, which projects it itself.
        text: [B, T, D], the picture's tokens first.
        rotation: cosine and sine of the video tokens [N, d], or [B, N, 2d] with both in one (official class).
        mask: of the joint attention [B, 1, 1, N + T], None where nothing is masked; or the official class's
            ``cu_seqlens_q, cu_seqlens_kv, max_seqlen_q, max_seqlen_kv``, four None where nothing is masked.
    """

    rotation: object = None
    mask: object = None
