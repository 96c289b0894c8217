"""Pictures that a video starts with, ends with or passes: files to pixels to latents."""

from __future__ import annotations

import torch
from torch import Tensor

from vace_adapt.conditioning.references import references_to_tensor
from vace_adapt.contract import ChunkShapes
from vace_adapt_framepack.hunyuan.codec import HunyuanCodec
from vace_adapt_framepack.hunyuan.parts import HunyuanParts


def picture(file: str | None, batch: int, shapes: ChunkShapes) -> Tensor:
    """Pixels [B, 3, 1, H, W] in [-1, 1], scaled to cover the frame and cut; gray where there is no file."""
    size = (batch, shapes.pixel_height, shapes.pixel_width)
    if file is None:
        return torch.zeros((batch, 3, 1, *size[1:]))
    return references_to_tensor([file], "crop", *size, name="picture")


def encoded(parts: HunyuanParts, pixels: Tensor) -> Tensor:
    """Latents [B, C, 1, h, w] of a picture, as the model takes them."""
    codec = HunyuanCodec(parts.vae)
    return codec.normalise(codec.encode(pixels)).to(parts.device, parts.dtype)
