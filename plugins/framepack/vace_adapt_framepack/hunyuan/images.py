"""SigLIP over the picture that a video starts with."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


class SiglipImages:
    """Pictures to tokens.

    Args:
        model: a transformers `SiglipVisionModel`.
        size: height and width that it takes.
    """

    def __init__(self, model: Any, size: int) -> None:
        self._model = model
        self._size = size

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [-1, 1], which is SigLIP's own range, to [B, n, image_dim]."""
        resized = F.interpolate(pixels, size=(self._size, self._size), mode="bicubic", antialias=True).clamp(-1, 1)
        return self._model(resized.to(self._model.device, self._model.dtype)).last_hidden_state
