"""The control side of one stream: conditioning and context path together, driven chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.vae import VaeCodec
from vace_adapt.context.blocks import ContextPath
from vace_adapt.context.references import References
from vace_adapt.context.stream import ContextStream
from vace_adapt.contract import ChunkShapes, HintSource
from vace_adapt.controls import ControlSettings, HintScale
from vace_adapt.errors import InputError
from vace_adapt.models.rope import RotaryGrid
from vace_adapt.streaming.noise import draw
from vace_adapt.streaming.queue import Control


class ControlPath:
    """Encodes what was given for a chunk and hands out the hints of its passes.

    Args:
        path: the context blocks.
        patch_embedding: the base model's.
        codec: the VAE.
        shapes: of the stream.
        settings: options of the control.
        seeds: one for each batch row.
        normalised: whether the base's latents are normalised.
        dtype: of the base model.
    """

    def __init__(
        self,
        path: ContextPath,
        patch_embedding: Callable[[Tensor], Tensor],
        codec: VaeCodec,
        shapes: ChunkShapes,
        settings: ControlSettings,
        seeds: Sequence[int],
        *,
        normalised: bool,
        dtype: torch.dtype,
    ) -> None:
        self._path = path
        self._codec = codec
        self._shapes = shapes
        self._settings = settings
        self._seeds = seeds
        self._normalised = normalised
        self._dtype = dtype
        size = (len(seeds), shapes.pixel_height, shapes.pixel_width)
        self._encoder = ControlEncoder(codec, shapes.time, size, settings.mask_time)
        rope = RotaryGrid(path.backbone.head_dim, shapes.grid, path.device)
        self.check_scale(settings.scale)
        self._context = ContextStream(path, patch_embedding, rope, settings.reference_form, settings.scale)
        self.references = 0

    def check_scale(self, scale: HintScale) -> None:
        """Refuse a scale whose factors do not fit the context layers or the longest chunk."""
        layers, longest = len(self._path.layers), max(self._shapes.time.first, self._shapes.time.rest)
        if scale.layers is not None and len(scale.layers) != layers:
            raise InputError(f"scale has {len(scale.layers)} layer factors, the model {layers} context layers")
        if scale.frames is not None and len(scale.frames) != longest:
            raise InputError(f"scale has {len(scale.frames)} frame factors, a chunk has {longest} latent frames")

    def check(self, *, control: bool, references: int, chunk: int) -> None:
        """Refuse inputs of a chunk that cannot work together."""
        self._context.check(control=control, references=references, frames=self._shapes.time.latents(chunk))

    def set_scale(self, scale: HintScale) -> None:
        self._context.scale = scale

    def set_prompt(self) -> None:
        self._context.set_prompt()

    def set_references(self, images: Tensor | None) -> None:
        """Take references [B, 3, R, H, W] in [-1, 1] from the next chunk on, or none."""
        self.references = 0 if images is None else images.shape[2]
        if images is None:
            self._context.set_references(None)
            return
        control, latents = self._encoder.references(images)
        latents = self._codec.normalise(latents) if self._normalised else latents
        frame = (latents.shape[1], *latents.shape[3:])
        noise = torch.stack([draw(self._seeds, "reference", i, frame) for i in range(self.references)], dim=2)
        self._context.set_references(
            References(control, latents.to(self._dtype), noise.to(latents.device, self._dtype))
        )

    def set_chunk(self, chunk: int, control: Control | None) -> bool:
        """Encode what was given for a chunk; whether the context path will run."""
        if control is None or self._context.scale.control == 0:
            self._encoder.skip(chunk)
            encoded = None
        else:
            encoded = self._encoder.control(chunk, control.frames, control.mask)
        self._context.set_chunk(encoded, self._encoder.nothing(chunk))
        return self.source(0, 1.0) is not None

    def source(self, step: int, sigma: float) -> HintSource | None:
        return self._context.source(step, sigma)

    def tensors(self) -> dict[str, Any]:
        """Every buffer that outlives a pass, by name."""
        return self._context.tensors()
