"""Still images in: upright, 8 bits, whatever Pillow reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vace_adapt.errors import InputError

BITS_16 = ("I", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes of one channel of 16 bits; mode I holds them in 32."""


def load_image(image: str | Path | Image.Image, name: str) -> Image.Image:
    """An image turned as its EXIF orientation says: RGB, or RGBA where it has transparency.

    Args:
        image: a path, or an image that is already open and stays so.
        name: what errors begin with.

    Raises:
        InputError: missing, damaged, not an image, or pixels that are neither 8 nor 16 bits.
    """
    shown = _shown(image)
    try:
        if isinstance(image, Image.Image):
            return _upright(image)
        with Image.open(image) as opened:
            return _upright(opened)
    except FileNotFoundError:
        raise InputError(f"{name}: no file {shown}") from None
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: {shown} is not an image") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: {shown} is too large: {_reason(error)}") from error
    except Exception as error:  # decoders raise anything, SyntaxError and struct.error among them
        raise InputError(f"{name}: {shown} cannot be read: {_reason(error)}") from error


def is_image(path: Path) -> bool:
    """Whether a file is a still image, by its content; one that is damaged behind its header is."""
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) == 1
    except Image.DecompressionBombError:
        return True
    except Exception:  # see `load_image`
        return False


def _upright(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode in BITS_16:
        image = _eight_bits(image)
    if image.mode == "F":
        raise ValueError("its pixels are float (mode F), expected 8 or 16 bits")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray of 16 bits scaled to 8; Pillow's own conversion clips."""
    levels = np.asarray(image).astype(np.int64)
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high > 65535:
        raise ValueError(f"its pixels are {low}..{high} (mode {image.mode}), expected 0..65535")
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def _shown(image: str | Path | Image.Image) -> str:
    """The path of an image in quotes, as far as there is one."""
    path = getattr(image, "filename", "") if isinstance(image, Image.Image) else image
    return repr(str(path)) if path or not isinstance(image, Image.Image) else "the PIL image"


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
