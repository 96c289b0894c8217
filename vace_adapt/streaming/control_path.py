"""The control side of one stream: conditioning and context path together, driven chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.composition.composer import Composed
from vace_adapt.composition.refuse import check_steps
from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.context.blocks import ContextPath
from vace_adapt.context.chunk import ChunkContext
from vace_adapt.context.past import PastFrames
from vace_adapt.context.references import References
from vace_adapt.context.stream import ContextStream
from vace_adapt.contract import ChunkShapes, ReferenceRoom
from vace_adapt.controls import ControlSettings
from vace_adapt.errors import InputError
from vace_adapt.scale import HintScale
from vace_adapt.streaming.engine import Engine
from vace_adapt.streaming.noise import draw
from vace_adapt.streaming.reader import GivenReferences


class ControlPath:
    """Encodes what was given for a chunk and hands out the hints of its passes.

    Args:
        engine: what runs the stream.
        path: its context blocks.
        shapes: of the stream.
        settings: options of the control.
        seeds: one for each batch row.

    Attributes:
        references: how many are in force; those of scale 0 are not.
        room: what the base's memory must reserve for them; None for nothing.

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
        self._steps = engine.parts.steps
        self._at_once = engine.parts.chunks_at_once
        passes = self._steps + (settings.kv_policy == "with_hints")
        self.room = ReferenceRoom(settings.reference_slots, passes) if settings.reference_slots else None
        self.check_scale(settings.scale)
        size = (len(seeds), shapes.pixel_height, shapes.pixel_width)
        self._encoder = ControlEncoder(engine.codec, shapes.time, size, settings.mask_time)
        rope = RotaryGrid(path.backbone.head_dim, shapes.grid, path.device)
        self._context = ContextStream(
            path,
            engine.patch_embedding,
            rope,
            settings.reference_form,
            settings.scale,
            self._steps,
            settings.reference_slots,
            self._at_once,
        )
        self._past = None if settings.context_frames == 0 else self._past_frames(settings.context_frames)

    @classmethod
    def open(
        cls, engine: Engine, shapes: ChunkShapes, settings: ControlSettings, seeds: Sequence[int]
    ) -> ControlPath | None:
        """The control path of a stream, or None where the pipeline has no control weights."""
        return None if engine.context is None else cls(engine, engine.context, shapes, settings, seeds)

    def check_scale(self, scale: HintScale) -> None:
        """Refuse a scale whose factors do not fit the context layers, the longest chunk or the denoise steps."""
        layers, longest = len(self._path.layers), max(self._shapes.time.first, self._shapes.time.rest)
        if scale.layers is not None and len(scale.layers) != layers:
            raise InputError(f"scale has {len(scale.layers)} layer factors, the model {layers} context layers")
        if scale.frames is not None and len(scale.frames) != longest:
            raise InputError(f"scale has {len(scale.frames)} frame factors, a chunk has {longest} latent frames")
        check_steps(scale, self._steps)

    def check(
        self, references: tuple[GivenReferences | None] | None, scale: HintScale | None, *, control: bool, chunk: int
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
            (given,) = references
            count = 0 if given is None else sum(one > 0 for one in given.scales)
        steps = range(self._steps)
        self._context.check(
            control=control and any(scale.control_at(chunk, step) for step in steps),
            references=count if any(scale.references_at(chunk, step) for step in steps) else 0,
            frames=self._shapes.time.latents(chunk),
        )

    def hears_control(self, chunk: int) -> bool:
        """Whether the control has a scale over 0 at any step of a chunk."""
        return any(self._context.scale.control_at(chunk, step) for step in range(self._steps))

    def set_scale(self, scale: HintScale) -> None:
        self._context.scale = scale

    def set_prompt(self) -> None:
        self._context.set_prompt()

    def set_references(self, images: Tensor | None, scales: tuple[float, ...] | None = None) -> None:
        """Take references from the next chunk on, or none.

        Args:
            images: [B, 3, R, H, W] in [-1, 1].
            scales: of each, times `HintScale.references`; None for 1. What has scale 0 is not there at all: it is not
                encoded, and noise draws are numbered among the others.
        """
        count = 0 if images is None else images.shape[2]
        chosen = (1.0,) * count if scales is None else scales
        heard = [i for i, scale in zip(range(count), chosen, strict=True) if scale > 0]
        self.references = len(heard)
        if images is None or not heard:
            self._context.set_references(None)
            return
        control, latents = self._encoder.references(images[:, :, heard].contiguous())
        latents = self._engine.codec.normalise(latents) if self._engine.parts.normalised_input else latents
        frame = (latents.shape[1], *latents.shape[3:])
        noise = torch.stack([draw(self._seeds, "reference", i, frame) for i in range(self.references)], dim=2)
        self._context.set_references(
            References(control, latents.to(self._engine.dtype), noise.to(latents.device, self._engine.dtype)),
            [chosen[i] for i in heard],
        )

    def chunk(self, chunk: int, composed: Composed | None, hint_reuse: int = 1) -> ChunkContext:
        """Encode what was given for a chunk, if any of its denoise steps uses it."""
        shape = len(self._seeds), self._shapes.time.latents(chunk)
        factors = None if composed is None else composed.factors
        if composed is not None and any(scale.any() for scale in self._context.control_scales(chunk, shape, factors)):
            encoded = self._encoder.control(chunk, composed.frames, composed.mask)
        else:
            self._encoder.skip(chunk)
            encoded = None
        past = None
        if self._past is not None:
            time = self._shapes.time
            start, shown = time.latent_start(chunk), time.latent_start(max(0, chunk + 1 - self._at_once))
            past = self._past.before(start, start - shown, self._encoder.nothing)
        return ChunkContext(
            self._context,
            shape,
            encoded,
            partial(self._encoder.nothing, self._shapes.time.latent_start(chunk), shape[1]),
            chunk=chunk,
            control_factors=factors,
            hint_reuse=hint_reuse,
            past=past,
        )

    def finished(self, chunk: int, context: ChunkContext, latents: Tensor) -> None:
        """Keep what the next chunks' context needs of one that is finished.

        Args:
            chunk: its number; chunks are finished in order.
            context: what `chunk` made for it.
            latents: [B, C, F, h, w] as the base made them. They go back into its patch embedding as they are, whatever
                `PipelineParts.normalised_input` says of latents that come from the VAE.
        """
        if self._past is None:
            return
        start, frames = self._shapes.time.latent_start(chunk), self._shapes.time.latents(chunk)
        control = self._encoder.nothing(start, frames) if context.control is None else context.control
        shape = (latents.shape[1], *latents.shape[3:])
        noise = [draw(self._seeds, "past", start + i, shape) for i in range(frames)]
        self._past.push(control, latents, torch.stack(noise, dim=2))

    def tensors(self) -> dict[str, Tensor]:
        """Every buffer that outlives a pass, by name."""
        return {**self._context.tensors(), **({} if self._past is None else self._past.tensors())}

    def _past_frames(self, frames: int) -> PastFrames:
        return PastFrames(
            frames,
            self._shapes.latent_shape(len(self._seeds), 0),
            self._path.backbone.control_channels,
            dtype=self._engine.dtype,
            control_dtype=self._path.dtype,
            device=self._engine.device,
            gap=(self._at_once - 1) * self._shapes.time.rest,
        )
