"""UMT5 prompts as Wan2.1 uses them, on transformers."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import ftfy
import torch
from torch import Tensor, nn


class Umt5TextEncoder:
    """Prompts to embeddings (`contract.TextEncoder`).

    Args:
        model: a transformers `UMT5EncoderModel`.
        tokenizer: its tokenizer.
        length: tokens of a prompt, padded or cut (512 for Wan2.1).
    """

    def __init__(self, model: Any, tokenizer: Any, length: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.length = length

    def to(self, device: torch.device, dtype: torch.dtype) -> Umt5TextEncoder:
        """Move the encoder; returns itself."""
        nn.Module.to(self.model, device, dtype)
        return self

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """[B, length, text_dim] in the model's dtype; rows past a prompt's own tokens are zero, as upstream."""
        tokens = self.tokenizer(
            [clean(prompt) for prompt in prompts],
            padding="max_length",
            truncation=True,
            max_length=self.length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        device = next(self.model.parameters()).device
        mask = tokens.attention_mask.to(device)
        embeds: Tensor = self.model(tokens.input_ids.to(device), mask).last_hidden_state
        return embeds * mask.unsqueeze(-1).to(embeds.dtype)


def clean(prompt: str) -> str:
    """Mend broken unicode and entities, and single out white space (Wan-Video/Wan2.1 wan/modules/tokenizers.py)."""
    mended = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return " ".join(mended.split())
