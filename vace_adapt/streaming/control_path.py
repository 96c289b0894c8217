"""The control side of one stream: conditioning and context path together, driven chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.context.blocks import ContextPath
from vace_adapt.context.chunk import ChunkContext
from vace_adapt.context.references import References
from vace_adapt.context.stream import ContextStream
from vace_adapt.contract import ChunkShapes
from vace_adapt.controls import ControlSettings, HintScale
from vace_adapt.errors import InputError
from vace_adapt.streaming.engine import Engine
from vace_adapt.streaming.noise import draw
from vace_adapt.streaming.queue import Control


class ControlPath:
    """Encodes what was given for a chunk and hands out the hints of its passes.

    Args:
        engine: what runs the stream.
        path: its context blocks.
        shapes: of the stream.
        settings: options of the control.
        seeds: one for each batch row.

    Raises:
        InputError: a scale that does not fit the model.
    """

    def __init__(
        self, engine: Engine, path: ContextPath, shapes: ChunkShapes, settings: ControlSettings, seeds: Sequence[int]
    ) -> None:
        self._engine = engine
        self._path = path
        self._shapes = shapes
        self._seeds = seeds
        self.references = 0
        self.check_scale(settings.scale)
        size = (len(seeds), shapes.pixel_height, shapes.pixel_width)
        self._encoder = ControlEncoder(engine.codec, shapes.time, size, settings.mask_time)
        rope = RotaryGrid(path.backbone.head_dim, shapes.grid, path.device)
        self._context = ContextStream(path, engine.patch_embedding, rope, settings.reference_form, settings.scale)

    @classmethod
    def open(
        cls, engine: Engine, shapes: ChunkShapes, settings: ControlSettings, seeds: Sequence[int]
    ) -> ControlPath | None:
        """The control path of a stream, or None where the pipeline has no control weights."""
        return None if engine.context is None else cls(engine, engine.context, shapes, settings, seeds)

    def check_scale(self, scale: HintScale) -> None:
        """Refuse a scale whose factors do not fit the context layers or the longest chunk."""
        layers, longest = len(self._path.layers), max(self._shapes.time.first, self._shapes.time.rest)
        if scale.layers is not None and len(scale.layers) != layers:
            raise InputError(f"scale has {len(scale.layers)} layer factors, the model {layers} context layers")
        if scale.frames is not None and len(scale.frames) != longest:
            raise InputError(f"scale has {len(scale.frames)} frame factors, a chunk has {longest} latent frames")

    def check(
        self, references: tuple[Tensor | None] | None, scale: HintScale | None, *, control: bool, chunk: int
    ) -> None:
        """Refuse inputs of a chunk that cannot work together.

        Args:
            references: a change of references, wrapped; None for no change.
            scale: a change of the scale, or None.
            control: whether control frames were fed for it.
            chunk: its number.
        """
        scale = scale or self._context.scale
        count = self.references
        if references is not None:
            (images,) = references
            count = 0 if images is None else images.shape[2]
        heard = bool(scale.parts(control=control, references=False))
        self._context.check(control=heard, references=count, frames=self._shapes.time.latents(chunk))

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
        latents = self._engine.codec.normalise(latents) if self._engine.parts.normalised_input else latents
        frame = (latents.shape[1], *latents.shape[3:])
        noise = torch.stack([draw(self._seeds, "reference", i, frame) for i in range(self.references)], dim=2)
        self._context.set_references(
            References(control, latents.to(self._engine.dtype), noise.to(latents.device, self._engine.dtype))
        )

    def chunk(self, chunk: int, control: Control | None) -> ChunkContext:
        """Encode what was given for a chunk."""
        if control is not None and self._context.scale.parts(control=True, references=False):
            encoded = self._encoder.control(chunk, control.frames, control.mask)
        else:
            self._encoder.skip(chunk)
            encoded = None
        shape = len(self._seeds), self._shapes.time.latents(chunk)
        return ChunkContext(self._context, shape, encoded, partial(self._encoder.nothing, chunk))

    def tensors(self) -> dict[str, Tensor]:
        """Every buffer that outlives a pass, by name."""
        return self._context.tensors()
