"""What a caller gives to a stream, as tensors of the stream's size; or refused, before anything changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vace_adapt.conditioning.pixels import Frames, check_frames, check_mask
from vace_adapt.conditioning.references import ReferenceImage, references_to_tensor
from vace_adapt.contract import ChunkShapes
from vace_adapt.controls import LARGEST_SCALE, ControlSettings, HintScale
from vace_adapt.errors import InputError
from vace_adapt.streaming.engine import Engine

References = Sequence[ReferenceImage] | Sequence[Sequence[ReferenceImage]]


@dataclass(frozen=True)
class Prompt:
    """The prompts of all rows and their embeddings [B, T, text_dim]."""

    words: tuple[str, ...]
    embeds: Tensor


class InputReader:
    """Reads the inputs of one stream.

    Args:
        engine: what runs the stream.
        shapes: its sizes.
        batch: its rows B.
        controls: its options.
    """

    def __init__(self, engine: Engine, shapes: ChunkShapes, batch: int, controls: ControlSettings) -> None:
        self._engine = engine
        self._rows = batch, shapes.pixel_height, shapes.pixel_width
        self._controls = controls

    def control(self, frames: Frames, mask: Frames | None) -> tuple[Tensor, Tensor | None]:
        """Own copies of frames [B, T, H, W, 3] and mask [B, T, H, W]."""
        checked = check_frames(frames, "control", *self._rows)
        return checked, None if mask is None else check_mask(mask, checked.shape[1], *self._rows)

    def references(self, images: References) -> Tensor | None:
        """References [B, 3, R, H, W] in [-1, 1]; None for none."""
        if isinstance(images, (str, Path, Image.Image, np.ndarray, Tensor)):
            raise InputError("references must be a list of images, not one image")
        if not isinstance(images, Sequence):
            raise InputError(f"references must be a list of images, not {type(images).__name__}")
        if all(isinstance(row, (list, tuple)) and not row for row in images):
            return None
        pixels = references_to_tensor(images, self._controls.reference_fit, *self._rows)
        count, most = pixels.shape[2], self._controls.max_references
        if count > most:
            raise InputError(f"{count} references are given, at most {most} are allowed (controls.max_references)")
        return pixels

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


def scale_of(scale: float | HintScale) -> HintScale:
    """A number as the scale of control and references alike."""
    if isinstance(scale, HintScale):
        return scale
    try:
        return HintScale(control=scale, references=scale)
    except ValueError:
        raise InputError(f"scale must be within 0..{LARGEST_SCALE}, not {scale!r}") from None
