"""What a caller may give as frames and masks, and how it becomes tensors.

Frames are channels last: ``[T, H, W, 3]``, or ``[B, T, H, W, 3]`` for a batch of streams, as a numpy array or a tensor;
or a list of PIL images. uint8 is 0..255, float is 0..1. Masks have no channels: ``[H, W]`` for all frames alike, ``[T,
H, W]``, or ``[B, T, H, W]``; bool, uint8 0..255 or float 0..1; 1 (255) = generate, 0 = keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from vace_adapt.errors import InputError
from vace_adapt.images import load_image

Frames = np.ndarray[Any, Any] | Tensor | Sequence[Image.Image]

MASK_LAYOUTS = "[H, W], [T, H, W] or [B, T, H, W]"


def check_frames(
    frames: Frames, name: str, batch: int, height: int, width: int, expected: str = "the stream"
) -> Tensor:
    """Frames of one call as an own copy [B, T, H, W, 3], uint8 or float32 in [0, 1]; `expected` has that size.

    Raises:
        InputError: another layout, size, number of channels, number of rows, dtype, or a value that is not finite.
    """
    array = _tensor(frames, name)
    if array.ndim == 4:
        array = array[None]
    if array.ndim != 5 or array.shape[-1] != 3:
        raise InputError(f"{name} must be [T, H, W, 3] or [B, T, H, W, 3], not {_shape(frames)}")
    _check_size(array, name, batch, height, width, expected)
    return _checked_values(array, name)


def check_mask(mask: Frames, frames: int, batch: int, height: int, width: int, expected: str = "the stream") -> Tensor:
    """A mask for `frames` frames as an own copy [B, T, H, W], uint8 or float32 in [0, 1]; `expected` has that size.

    Raises:
        InputError: another layout, size, length, dtype, a value that is not finite, or 0 and 1 as uint8.
    """
    array = _tensor(mask, "mask")
    if array.ndim == 2:
        array = array.expand(frames, *array.shape)
    if array.ndim == 3:
        array = array.expand(batch, *array.shape)
    if array.ndim != 4:
        raise InputError(f"mask must be {MASK_LAYOUTS}, not {_shape(mask)}")
    if array.shape[1] != frames:
        raise InputError(
            f"mask has {array.shape[1]} frames, the control {frames}: "
            f"the mask is {_shape(mask)}, expected {MASK_LAYOUTS}"
        )
    _check_size(array[..., None], "mask", batch, height, width, expected)
    if array.dtype == torch.uint8 and array.max() == 1:
        raise InputError("mask as uint8 must be within 0..255, not 0..1: give 0 and 255, or bool")
    return _checked_values(array, "mask")


def frames_to_pixels(frames: Tensor) -> Tensor:
    """Frames [B, T, H, W, 3] to float32 [B, 3, T, H, W] in [-1, 1]."""
    return rearrange(to_unit(frames), "b t h w c -> b c t h w") * 2 - 1


def mask_to_pixels(mask: Tensor) -> Tensor:
    """A mask [B, T, H, W] to float32 [B, 1, T, H, W] in [0, 1]."""
    return rearrange(to_unit(mask), "b t h w -> b 1 t h w")


def to_unit(array: Tensor) -> Tensor:
    """Checked frames or masks as float32 within 0..1."""
    return array.float() / 255 if array.dtype == torch.uint8 else array


def tensor_to_frames(pixels: Tensor) -> Tensor:
    """Decoded pixels [B, 3, T, H, W] in [-1, 1] to uint8 [B, T, H, W, 3] on the CPU."""
    levels = (pixels.float() * 0.5 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return rearrange(levels, "b c t h w -> b t h w c").cpu()


def array_to_tensor(array: np.ndarray[Any, Any] | Tensor, name: str) -> Tensor:
    """Numbers on any device and in any byte order as a tensor on the CPU.

    Raises:
        InputError: not numbers, or a tensor that is sparse or holds no values; begins with `name`.
    """
    if isinstance(array, Tensor):
        if array.layout != torch.strided or array.is_meta:
            kind = "one on the device meta" if array.is_meta else array.layout
            raise InputError(f"{name} must be a dense tensor with values, not {kind}")
        return array.detach().cpu()
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be uint8 or float, not {array.dtype}")
    dtype = np.dtype(np.float64) if array.dtype == np.longdouble else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(array.astype(dtype, copy=False), requirements=["C", "W"]))


def _tensor(frames: Frames, name: str) -> Tensor:
    if isinstance(frames, (np.ndarray, Tensor)):
        return array_to_tensor(frames, name)
    if isinstance(frames, Sequence) and frames and all(isinstance(frame, Image.Image) for frame in frames):
        images = [load_image(frame, f"{name} frame {index}").convert("RGB") for index, frame in enumerate(frames)]
        sizes = {image.size for image in images}
        if len(sizes) > 1:
            raise InputError(f"{name} frames differ in size: {sorted(sizes)}")
        mode = "L" if name == "mask" else "RGB"
        return torch.from_numpy(np.stack([np.asarray(image.convert(mode)) for image in images]))
    raise InputError(f"{name} must be an array, a tensor or a list of PIL images, not {type(frames).__name__}")


def _check_size(array: Tensor, name: str, batch: int, height: int, width: int, expected: str) -> None:
    rows, count, came_height, came_width, _ = array.shape
    if count == 0:
        raise InputError(f"{name} has no frames")
    if rows != batch:
        raise InputError(f"{name} has {rows} batch rows, the stream has {batch}")
    if (came_height, came_width) != (height, width):
        raise InputError(f"{name} is {came_height}x{came_width} (height x width), {expected} is {height}x{width}")


def _checked_values(array: Tensor, name: str) -> Tensor:
    """A copy as uint8 or float32; bool becomes 0 and 255."""
    if array.dtype == torch.bool:
        return array.to(torch.uint8) * 255
    if array.dtype == torch.uint8:
        return array.clone()
    if not array.dtype.is_floating_point:
        raise InputError(f"{name} must be uint8 or float, not {array.dtype}")
    array = array.to(torch.float32, copy=True)
    if not torch.isfinite(array).all():
        raise InputError(f"{name} has values that are not finite")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise InputError(f"{name} as float must be within 0..1, not {low:.9g}..{high:.9g}")
    return array


def _shape(frames: Frames) -> str:
    if isinstance(frames, (np.ndarray, Tensor)):
        return str(list(frames.shape)) if frames.ndim else "a single number"
    return f"{len(frames)} PIL images"
