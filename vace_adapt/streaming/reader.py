"""What a caller gives to a stream, as tensors of the stream's size; or refused, before anything changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from vace_adapt.composing import MAIN
from vace_adapt.composition.composer import Given
from vace_adapt.conditioning.pixels import Frames, check_frames, check_mask, to_unit
from vace_adapt.conditioning.references import (
    Reference,
    ReferenceImage,
    reference_roles,
    reference_scales,
    references_to_tensor,
)
from vace_adapt.contract import ChunkShapes
from vace_adapt.controls import ControlSettings
from vace_adapt.errors import InputError
from vace_adapt.scale import LARGEST_SCALE, HintScale
from vace_adapt.streaming.engine import Engine

References = Sequence[ReferenceImage | Reference] | Sequence[Sequence[ReferenceImage | Reference]]


@dataclass(frozen=True)
class Prompt:
    """The prompts of all rows and their embeddings [B, T, text_dim]."""

    words: tuple[str, ...]
    embeds: Tensor


@dataclass(frozen=True)
class GivenReferences:
    """References [B, 3, R, H, W] in [-1, 1], and the scale and the role of each, the same in all rows."""

    images: Tensor
    scales: tuple[float, ...]
    roles: tuple[str | None, ...] = ()


class InputReader:
    """Reads the inputs of one stream.

    Args:
        engine: what runs the stream.
        shapes: its sizes.
        batch: its rows B.
        controls: its options.
        source_size: height and width h, w of what is fed.
    """

    def __init__(
        self,
        engine: Engine,
        shapes: ChunkShapes,
        batch: int,
        controls: ControlSettings,
        source_size: tuple[int, int],
    ) -> None:
        self._engine = engine
        self._rows = batch, shapes.pixel_height, shapes.pixel_width
        inner = source_size == self._rows[1:]
        self._fed = batch, *source_size, "the stream" if inner else "its source (controls.outpaint)"
        self._controls = controls

    def given(self, control: Frames | None, mask: Frames | None, videos: Mapping[str, Frames]) -> Given:
        """Own copies of videos [B, T, h, w, 3] and mask [B, T, h, w].

        Raises:
            InputError: nothing is given, or something of another layout, size, length or dtype.
        """
        if not isinstance(videos, Mapping):
            raise InputError(f"videos must be frames by name, not {type(videos).__name__}")
        named = {**({} if control is None else {MAIN: control}), **videos}
        if not named:
            raise InputError("nothing is fed: give frames, or videos by name")
        if control is not None and MAIN in videos:
            raise InputError(f"{MAIN!r} is the name of the frames that are fed without one: choose another")
        checked = {name: check_frames(frames, _named(name), *self._fed) for name, frames in named.items()}
        first, *others = checked
        count = checked[first].shape[1]
        for name in others:
            if checked[name].shape[1] != count:
                raise InputError(f"{_named(name)} has {checked[name].shape[1]} frames, {_named(first)} {count}")
        return Given(checked, None if mask is None else check_mask(mask, count, *self._fed))

    def keyframes(self, pictures: Any, mask: Frames | None) -> tuple[Tensor, Tensor]:
        """Keyframes as float32 [B, T, h, w, 3] within 0..1, and what is kept of them [B, T, h, w].

        A path or a PIL image is scaled to cover the frame and cut; its transparent parts become white.

        Raises:
            InputError: it cannot be read, or an array of another size.
        """
        if isinstance(pictures, (str, Path, Image.Image)):
            fitted = references_to_tensor([pictures], "crop", *self._fed[:3], name="keyframe")
            frames = rearrange(fitted, "b c t h w -> b t h w c") / 2 + 0.5
        else:
            one = isinstance(pictures, (np.ndarray, Tensor)) and pictures.ndim == 3
            batch = self._fed[0]
            rows = batch if getattr(pictures, "ndim", 0) == 5 else 1
            frames = check_frames(pictures[None] if one else pictures, "keyframe", rows, *self._fed[1:])
            frames = to_unit(frames).expand(batch, -1, -1, -1, -1)
        if mask is None:
            return frames, torch.zeros(frames.shape[:-1])
        return frames, to_unit(check_mask(mask, frames.shape[1], *self._fed))

    def references(self, images: References) -> GivenReferences | None:
        """What is given; None for none."""
        if isinstance(images, (str, Path, Image.Image, np.ndarray, Tensor, Reference)):
            raise InputError("references must be a list of images, not one image")
        if not isinstance(images, Sequence):
            raise InputError(f"references must be a list of images, not {type(images).__name__}")
        if all(isinstance(row, (list, tuple)) and not row for row in images):
            return None
        controls = self._controls
        pixels = references_to_tensor(images, controls.reference_fit, *self._rows, controls.reference_background)
        scales = reference_scales(images, self._rows[0])
        if excess := controls.too_many(scales):
            raise InputError(excess)
        return GivenReferences(pixels, scales, reference_roles(images))

    @torch.no_grad()
    def prompt(self, prompt: str | Sequence[str]) -> Prompt:
        """One prompt for all rows, or one for each, with its embeddings on the base's device and in its dtype."""
        batch = self._rows[0]
        listed = isinstance(prompt, Sequence) and all(isinstance(words, str) for words in prompt)
        if not listed:
            raise InputError(f"prompt must be text, or one text for each batch row, not {prompt!r}")
        words = (prompt,) * batch if isinstance(prompt, str) else tuple(prompt)
        if len(words) != batch:
            raise InputError(f"{len(words)} prompts are given, the stream has {batch} batch rows")
        embeds = self._engine.parts.text_encoder(words).to(self._engine.device, self._engine.dtype)
        return Prompt(words, embeds)


def _named(name: str) -> str:
    return "control" if name == MAIN else f"video {name!r}"


def scale_of(scale: float | HintScale) -> HintScale:
    """A number as the scale of control and references alike."""
    if isinstance(scale, HintScale):
        return scale
    try:
        return HintScale(control=scale, references=scale)
    except ValueError:
        raise InputError(f"scale must be within 0..{LARGEST_SCALE}, not {scale!r}") from None
