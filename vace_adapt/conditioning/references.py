"""Reference images to pixels of the stream's size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from vace_adapt.conditioning.pixels import array_to_tensor
from vace_adapt.controls import ReferenceFit
from vace_adapt.errors import InputError
from vace_adapt.images import load_image

ReferenceImage = str | Path | Image.Image | np.ndarray[Any, Any] | Tensor


def references_to_tensor(
    images: Sequence[ReferenceImage] | Sequence[Sequence[ReferenceImage]],
    fit: ReferenceFit,
    batch: int,
    height: int,
    width: int,
) -> Tensor:
    """References to float32 [B, 3, R, H, W] in [-1, 1].

    Args:
        images: R images for all rows alike, or for each row its own R images. An image is a path, a PIL image, or
            ``[H, W, 3]`` uint8 or float 0..1.
        fit: ``crop`` scales to cover and cuts the centre; ``letterbox`` scales to fit on a white canvas
            (ali-vilab/VACE vace/models/wan/wan_vace.py ``prepare_source``).
        batch, height, width: of the stream.

    Raises:
        InputError: not an image, no image at all, or rows with different numbers of references.
    """
    rows = _rows(images, batch)
    place = _crop if fit == "crop" else _letterbox
    made = [[place(_image(image, i), height, width) for i, image in enumerate(row)] for row in rows]
    return torch.stack([torch.cat(row, dim=0) for row in made]).transpose(1, 2)


def _rows(images: Any, batch: int) -> list[Any]:
    """The images of each batch row."""
    if not isinstance(images, (list, tuple)):
        raise InputError(f"references must be a list of images, not {type(images).__name__}")
    nested = [isinstance(row, (list, tuple)) for row in images]
    if any(nested) and not all(nested):
        raise InputError("references mix images and lists of images: give one list, or one list for each batch row")
    rows: list[Any] = list(images) if any(nested) else [images] * batch
    if len(rows) != batch:
        raise InputError(f"references are given for {len(rows)} batch rows, the stream has {batch}")
    counts = {len(row) for row in rows}
    if len(counts) > 1:
        raise InputError(f"rows have {sorted(counts)} references: give every row the same number")
    if counts == {0}:
        raise InputError("references are empty: give at least one image")
    return rows


def _image(image: ReferenceImage, index: int) -> Tensor:
    """One image to float32 [1, 3, H, W] in [-1, 1]."""
    name = f"reference {index}"
    if isinstance(image, (str, Path, Image.Image)):
        image = np.asarray(_on_white(load_image(image, name)))
    if not isinstance(image, (np.ndarray, Tensor)):
        raise InputError(f"{name} must be a path, a PIL image, an array or a tensor, not {type(image).__name__}")
    array = array_to_tensor(image, name)
    if array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        raise InputError(f"{name} must be [H, W, 3], not {list(array.shape)}")
    if array.dtype == torch.uint8:
        unit = array.float() / 255
    elif array.dtype.is_floating_point:
        unit = array.float()
        if not torch.isfinite(unit).all() or unit.min() < 0 or unit.max() > 1:
            raise InputError(f"{name} as float must be finite and within 0..1")
    else:
        raise InputError(f"{name} must be uint8 or float, not {array.dtype}")
    return rearrange(unit, "h w c -> 1 c h w") * 2 - 1


def _on_white(image: Image.Image) -> Image.Image:
    """RGB; transparent parts become white, the ground VACE's references stand on."""
    if image.mode == "RGB":
        return image
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")


def _crop(image: Tensor, height: int, width: int) -> Tensor:
    scale = max(height / image.shape[2], width / image.shape[3])
    size = (max(height, round(image.shape[2] * scale)), max(width, round(image.shape[3] * scale)))
    if tuple(image.shape[2:]) != size:
        image = F.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return image[:, :, top : top + height, left : left + width]


def _letterbox(image: Tensor, height: int, width: int) -> Tensor:
    if tuple(image.shape[2:]) == (height, width):
        return image
    scale = min(height / image.shape[2], width / image.shape[3])
    size = (max(1, int(image.shape[2] * scale)), max(1, int(image.shape[3] * scale)))
    fitted = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
    canvas = torch.ones((1, 3, height, width))
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    canvas[:, :, top : top + size[0], left : left + size[1]] = fitted
    return canvas
