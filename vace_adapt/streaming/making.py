"""One chunk after another: what was taken for it goes through control path, loop and decoder.

A chunk begins with its inputs and is finished when the plugin's loop gives its latents. Some loops work on several
chunks at once (`PipelineParts.chunks_at_once`); chunks begin and are finished in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vace_adapt.composition.anchors import Anchored
from vace_adapt.composition.composer import Composed, Composer
from vace_adapt.conditioning.pixels import tensor_to_frames
from vace_adapt.context.chunk import ChunkContext
from vace_adapt.contract import CacheOps, ChunkReport, ChunkShapes
from vace_adapt.controls import ControlSettings
from vace_adapt.streaming.chunk import SessionChunk, StreamedChunk
from vace_adapt.streaming.control_path import ControlPath
from vace_adapt.streaming.drift import Drift
from vace_adapt.streaming.engine import Engine
from vace_adapt.streaming.inbox import Changes, Taken
from vace_adapt.streaming.loop import Loop
from vace_adapt.streaming.preserving import Kept, SourceLatents, keep_pixels
from vace_adapt.streaming.reader import Prompt
from vace_adapt.streaming.reanchoring import Reanchoring
from vace_adapt.streaming.source import SourceVideos


@dataclass(frozen=True)
class Begun:
    """A chunk that the loop works on.

    Attributes:
        chunk: as the loop sees it.
        taken: what it is made from.
        composed: what VACE is shown, or None.
        heard: the same, None where its control has no scale over 0. Without control weights it steers nothing, and what
            is kept of it is kept all the same.
        context: where its hints come from; None without control weights.
        settings: options of the control that hold for it.
        references: number of references in force.
        reanchored: whether the memory of any row is rebuilt before it.
    """

    chunk: SessionChunk
    taken: Taken
    composed: Composed | None
    heard: Composed | None
    context: ChunkContext | None
    settings: ControlSettings
    references: int
    reanchored: bool


@dataclass(frozen=True)
class Made:
    """A finished chunk.

    Attributes:
        frames: uint8 [B, T, H, W, 3] on the CPU.
        latents: [B, C, F, h, w].
        begun: what it is made from.
        drift: by batch row.
    """

    frames: Tensor
    latents: Tensor
    begun: Begun
    drift: tuple[float, ...]

    @property
    def controlled(self) -> bool:
        """Whether the context path ran."""
        return self.begun.context is not None and self.begun.context.runs

    def streamed(self, count: int, report: ChunkReport) -> StreamedChunk:
        """Its first `count` frames as the caller gets them."""
        shown = self.begun.composed
        control = None if shown is None else tensor_to_frames(shown.frames[:, :, :count])
        mask = None if shown is None or shown.mask is None else _levels(shown.mask[:, 0, :count])
        return StreamedChunk(self.frames[:, :count], self.latents, report, control, mask)


class ChunkMaker:
    """The state of one stream that its chunks change.

    Args:
        engine: what runs it.
        shapes: of the stream.
        seeds: one for each batch row.
        settings: options of the control.
        path: its control path, or None without control weights.
        composer: puts its inputs together; None without control weights.

    Raises:
        InputError: the memory has no sink that could be re-anchored.
    """

    def __init__(
        self,
        engine: Engine,
        shapes: ChunkShapes,
        seeds: Sequence[int],
        settings: ControlSettings,
        path: ControlPath | None,
        composer: Composer | None,
    ) -> None:
        self.path = path
        self.composer = composer
        self.settings = settings
        self.prompt: Prompt | None = None
        self._engine = engine
        self._shapes = shapes
        self._seeds = seeds
        self._source = SourceLatents(engine, shapes, len(seeds))
        self._videos = SourceVideos(engine, shapes, len(seeds)) if engine.parts.starts_from_video else None
        self._begun: deque[Begun] = deque()
        self._loop = Loop(engine, shapes, len(seeds), None if path is None else path.room)
        self._drift = Drift()
        self._reanchoring = None
        if settings.reanchor is not None:
            self._reanchoring = Reanchoring(settings.reanchor, engine, shapes, len(seeds), self.cache.layout)

    @property
    def cache(self) -> CacheOps:
        """The base model's memory; gone once closed."""
        return self._loop.cache

    def check(self, index: int, anchored: Anchored | None) -> None:
        """Refuse chunk number `index` with these keyframes, before anything changes; see `Reanchoring.check`."""
        if self._reanchoring is not None:
            self._reanchoring.check(index, anchored)

    def waits(self, index: int) -> bool:
        """Whether chunk number `index` cannot begin before the ones in front of it are finished."""
        return self._reanchoring is not None and self._reanchoring.waits(index)

    @property
    def unfinished(self) -> int:
        """Chunks that have begun and are not finished."""
        return len(self._begun)

    @torch.no_grad()
    def begin(self, index: int, taken: Taken) -> None:
        """Begin chunk number `index`.

        Raises:
            InputError: frames that do not show what an annotator needs.
        """
        new_prompt = self._apply(taken.changes)
        composed = None if self.composer is None else self.composer(index, taken.given, taken.anchored)
        heard = composed if self.path is None or self.path.hears_control(index) else None
        kept = self._kept(index, heard)
        context = None if self.path is None else self.path.chunk(index, composed, self.settings.hint_reuse)
        rebuilt = {} if self._reanchoring is None else self._reanchoring.before(index, taken.anchored)
        video = None
        if self._videos is not None and self.composer is not None:
            shown = None if composed is None else composed.frames
            own_blocks = self._engine.parts.hinted_blocks is not None
            video = self._videos(index, shown if own_blocks else self.composer.video(taken.given))
        assert self.prompt is not None
        chunk = SessionChunk(
            self._engine.parts,
            self._shapes,
            self._seeds,
            index,
            self.prompt.embeds,
            prompt_changed=new_prompt,
            context=context,
            kept=kept,
            reanchor=rebuilt,
            hints_in_clean_pass=self.settings.kv_policy == "with_hints",
            video=video,
        )
        references = 0 if self.path is None else self.path.references
        self._begun.append(Begun(chunk, taken, composed, heard, context, self.settings, references, bool(rebuilt)))
        self._loop.stage(chunk)

    @torch.no_grad()
    def finish(self) -> Made:
        """Finish the oldest chunk that has begun.

        Raises:
            SessionError: the loop ended, or made something of another shape or not finite.
        """
        begun = self._begun.popleft()
        latents, frames = self._loop.finish(begun.chunk)
        if self.path is not None and begun.context is not None:
            self.path.finished(begun.chunk.index, begun.context, latents)
        drift = self._drift(latents)
        if self._reanchoring is not None:
            self._reanchoring.after(latents, drift)
        if begun.settings.preserve == "pixel" and begun.heard is not None:
            frames = keep_pixels(frames, begun.heard, begun.settings.seam)
        return Made(frames, latents, begun, drift)

    def held(self) -> list[Tensor]:
        """Every buffer of cache, context path and re-anchoring."""
        path = {} if self.path is None else self.path.tensors()
        anchors = {} if self._reanchoring is None else self._reanchoring.tensors()
        return [*self.cache.tensors().values(), *path.values(), *anchors.values()]

    def close(self) -> None:
        """End the loop and let everything large go."""
        self._loop.close()
        self._begun.clear()
        self.path = self.composer = self._reanchoring = None

    def _apply(self, changes: Changes) -> bool:
        """Take over what changes; whether the prompt does."""
        new_prompt = changes.prompt is not None and (self.prompt is None or changes.prompt.words != self.prompt.words)
        self.prompt = changes.prompt if new_prompt else self.prompt
        if changes.composing is not None:
            self.settings, self.composer = changes.composing.settings, changes.composing.composer
        if self.path is None:
            return new_prompt
        if new_prompt:
            self.path.set_prompt()
        if changes.references is not None:
            (given,) = changes.references
            self.path.set_references(*((None, None) if given is None else (given.images, given.scales)))
        if changes.scale is not None:
            self.path.set_scale(changes.scale)
        return new_prompt

    def _kept(self, index: int, composed: Composed | None) -> Kept | None:
        """What is kept of the chunk's latents; the source is followed only while it is asked for."""
        if self.settings.preserve != "latent":
            self._source.skip(index)
            return None
        return self._source(index, composed)


def _levels(mask: Tensor) -> Tensor:
    """A mask within 0..1 as uint8."""
    return (mask * 255).round().to("cpu", torch.uint8)
