"""Reference images to pixels of the stream's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from vace_adapt.conditioning.pixels import array_to_tensor
from vace_adapt.conditioning.subject import cut_subject, remove_background
from vace_adapt.controls import ReferenceBackground, ReferenceFit
from vace_adapt.errors import InputError
from vace_adapt.images import load_image
from vace_adapt.scale import LARGEST_SCALE

ReferenceImage = str | Path | Image.Image | np.ndarray[Any, Any] | Tensor


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference with what is said of it; stands wherever a plain image may.

    Attributes:
        image: as a plain one.
        scale: strength of its hints within 0..100, times the stream's scale for references; 0 is the same as not
            giving it.
        role: what it is (face, object, style, ...), for people; it changes nothing.
        mask: where the subject is: an image, or an array [H, W] (bool, or uint8 over 127). The rest becomes white.
        box: the subject's left, top, right, bottom as fractions of width and height.
        background: ``keep`` or ``remove`` it, see `vace_adapt.conditioning.subject`; None is the stream's
            ``reference_background``.

    A subject with a mask, a box or without its background is cropped to what is left of it and stands whole on white,
    as VACE's references do (ali-vilab/VACE vace/annotators/subject.py), whatever the stream's ``reference_fit``.

    Raises:
        InputError: a scale outside the range, a box or a background that is none, or a mask and a box.
    """

    image: ReferenceImage
    scale: float = 1.0
    role: str | None = None
    mask: ReferenceImage | None = None
    box: tuple[float, float, float, float] | None = None
    background: ReferenceBackground | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.scale, Real) or not 0 <= self.scale <= LARGEST_SCALE:
            raise InputError(f"scale of a reference must be within 0..{LARGEST_SCALE}, not {self.scale!r}")
        if self.background not in (None, *get_args(ReferenceBackground)):
            raise InputError(f"background of a reference must be keep or remove, not {self.background!r}")
        if self.box is not None and not _is_box(self.box):
            raise InputError(f"box of a reference must be 4 numbers, left, top, right, bottom, not {self.box!r}")
        if self.mask is not None and self.box is not None:
            raise InputError("a reference has a mask and a box: give one of them")


def _is_box(box: object) -> bool:
    return isinstance(box, Sequence) and len(box) == 4 and all(isinstance(side, Real) for side in box)


def references_to_tensor(
    images: Sequence[ReferenceImage | Reference] | Sequence[Sequence[ReferenceImage | Reference]],
    fit: ReferenceFit,
    batch: int,
    height: int,
    width: int,
    background: ReferenceBackground = "keep",
    name: str = "reference",
) -> Tensor:
    """References to float32 [B, 3, R, H, W] in [-1, 1].

    Args:
        images: R images for all rows alike, or for each row its own R images. An image is a path, a PIL image, or
            ``[H, W, 3]`` uint8 or float 0..1, or one of these in a `Reference`.
        fit: ``crop`` scales to cover and cuts the centre; ``letterbox`` scales to fit on a white canvas
            (ali-vilab/VACE vace/models/wan/wan_vace.py ``prepare_source``).
        batch, height, width: of the stream.
        background: what happens to it where a reference does not say so itself.
        name: what errors call one of them.

    Raises:
        InputError: not an image, no image at all, no subject, or rows with different numbers of references.
    """
    rows = _rows(images, batch)
    made = [[_placed(one, f"{name} {i}", fit, background, height, width) for i, one in enumerate(row)] for row in rows]
    return torch.stack([torch.cat(row, dim=0) for row in made]).transpose(1, 2)


def reference_scales(
    images: Sequence[ReferenceImage | Reference] | Sequence[Sequence[ReferenceImage | Reference]], batch: int
) -> tuple[float, ...]:
    """The scale of each reference; plain images have 1. Arguments as of `references_to_tensor`.

    Raises:
        InputError: rows with different scales.
    """
    rows = [
        tuple(float(one.scale) if isinstance(one, Reference) else 1.0 for one in row) for row in _rows(images, batch)
    ]
    if len(set(rows)) > 1:
        raise InputError(f"rows have references of different scales, {' and '.join(map(str, dict.fromkeys(rows)))}")
    return rows[0]


def reference_roles(
    images: Sequence[ReferenceImage | Reference] | Sequence[Sequence[ReferenceImage | Reference]],
) -> tuple[str | None, ...]:
    """The role of each reference, as the first row has it."""
    first = images[0] if isinstance(images[0], (list, tuple)) else images
    return tuple(one.role if isinstance(one, Reference) else None for one in first)


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


def _placed(
    given: ReferenceImage | Reference,
    name: str,
    fit: ReferenceFit,
    background: ReferenceBackground,
    height: int,
    width: int,
) -> Tensor:
    """One reference of the stream's size, float32 [1, 3, H, W] in [-1, 1]."""
    reference = given if isinstance(given, Reference) else Reference(given)
    image = _image(reference.image, name)
    remove = (reference.background or background) == "remove" and reference.mask is None
    if not remove and reference.mask is None and reference.box is None:
        return (_crop if fit == "crop" else _letterbox)(image, height, width)
    try:
        return _letterbox(_subject(image, reference, name, remove=remove), height, width)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _subject(image: Tensor, reference: Reference, name: str, *, remove: bool) -> Tensor:
    """What is left of an image [1, 3, H, W] once it is cut to its subject."""
    levels = rearrange((image + 1) * 127.5, "1 c h w -> h w c").round().to(torch.uint8).numpy()
    if reference.mask is not None:
        cut = cut_subject(levels, _subject_mask(reference.mask, "mask"))
    elif remove:
        cut = cut_subject(levels, remove_background(levels, reference.box))
    else:
        cut = cut_subject(levels, box=reference.box)
    return rearrange(torch.from_numpy(cut).float() / 127.5 - 1, "h w c -> 1 c h w")


def _subject_mask(mask: ReferenceImage, name: str) -> np.ndarray[Any, Any]:
    """uint8 [H, W]."""
    if isinstance(mask, (str, Path, Image.Image)):
        return np.asarray(load_image(mask, name).convert("L"))
    if not isinstance(mask, (np.ndarray, Tensor)):
        raise InputError(f"{name} must be a path, a PIL image, an array or a tensor, not {type(mask).__name__}")
    array = array_to_tensor(mask, name)
    return (array.to(torch.uint8) * 255 if array.dtype == torch.bool else array).numpy()


def _image(image: ReferenceImage, name: str) -> Tensor:
    """One image to float32 [1, 3, H, W] in [-1, 1]."""
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
