"""What a caller gives to a stream: frames, masks, keyframes, and changes of what holds.

Inputs declare their life. The prompt, the references, the scale and the options of the control hold until they are
changed; frames and masks belong to the chunk they were fed for and expire with it, a keyframe belongs to its frame.
Whatever is given takes effect at the next chunk, never inside one. Everything is checked where it is given, before
anything changes; a refused call leaves the stream as it was.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vace_adapt.composition.anchors import Anchors, first_frame
from vace_adapt.composition.composer import Composer
from vace_adapt.composition.describe import Description, Facts, describe
from vace_adapt.conditioning.pixels import Frames
from vace_adapt.conditioning.references import ReferenceImage
from vace_adapt.controls import ControlSettings
from vace_adapt.errors import InputError, SessionError
from vace_adapt.scale import HintScale
from vace_adapt.streaming.control_path import ControlPath
from vace_adapt.streaming.controls import changed
from vace_adapt.streaming.engine import Engine
from vace_adapt.streaming.inbox import Changes, Composing, Inbox
from vace_adapt.streaming.making import ChunkMaker
from vace_adapt.streaming.reader import GivenReferences, InputReader, References, scale_of
from vace_adapt.validation import whole


class StreamInputs:
    """State of one stream, and all that may be given to it.

    Args:
        engine: what runs it.
        prompt: one, or one for each batch row.
        seeds: one for each batch row.
        height, width: pixels.
        references: images that hold from the start.
        num_frames: pixel frames to make at most; a control that ends ends the stream before.
        controls: options of the control.

    Attributes:
        source_size: height and width of the frames that are fed; smaller than the stream's where room is made around
            them (``controls.outpaint``).
    """

    def __init__(
        self,
        engine: Engine,
        prompt: str | Sequence[str],
        seeds: Sequence[int],
        height: int,
        width: int,
        references: References,
        num_frames: int | None,
        controls: ControlSettings,
    ) -> None:
        if num_frames is not None and num_frames < 1:
            raise InputError(f"num_frames must be at least 1, not {num_frames}")
        if controls.kv_policy == "with_hints":
            engine.hooks.require("clean_pass", engine.parts.layout)
        if controls.preserve == "latent":
            engine.hooks.require("preserve_latents", engine.parts.layout)
        if controls.reference_slots:
            engine.hooks.require("reference_slots", engine.parts.layout)
        if controls.reanchor is not None:
            engine.hooks.require("reanchor", engine.parts.layout)
        self.engine = engine
        self.batch = len(seeds)
        self.seeds = tuple(seeds)
        self.num_frames = num_frames
        self.shapes = engine.hooks.chunk_shapes(engine.parts, height, width)
        self._check_length(0 if num_frames is None else num_frames)
        path = ControlPath.open(engine, self.shapes, controls, self.seeds)
        self._controlled = path is not None
        self._composing = None
        if path is not None or engine.parts.starts_from_video:
            self._composing = Composing(controls, self._composer(controls))
        composer = None if self._composing is None else self._composing.composer
        self.source_size = (height, width) if composer is None else composer.source_size
        self._reader = InputReader(engine, self.shapes, self.batch, controls, self.source_size)
        self._references: GivenReferences | None = self._reader.references(references)
        self._scale = controls.scale
        self._index = 0
        self._made = 0
        self._closed: str | None = None
        self._closing = False
        self._turn = threading.RLock()
        self._changing = threading.Lock()
        first = Changes(self._reader.prompt(prompt), None if self._references is None else (self._references,))
        self._inbox = Inbox(first, Anchors(self.shapes.time, controls.anchor))
        if self._references is not None and path is None:
            raise _no_control_weights("references")
        if controls.reanchor is not None and controls.reanchor.source == "keyframe" and path is None:
            raise _no_control_weights("keyframes")
        self._maker = ChunkMaker(engine, self.shapes, self.seeds, controls, path, composer)

    @property
    def waiting(self) -> int:
        """Control frames that were fed and not used yet."""
        return self._inbox.frames

    def feed(
        self,
        control: Frames | None,
        mask: Frames | None = None,
        *,
        videos: Mapping[str, Frames] | None = None,
        last: bool = False,
    ) -> None:
        """Give frames, any number at a time; a chunk takes what it needs (9, then 12 for LongLive).

        Args:
            control: see `vace_adapt.conditioning.pixels`; of `source_size`. Where the mask is 1 they steer, as
                ``controls.structure`` says (by default as they are: depth, pose, edges, ...); where it is 0 they are
                kept. None where only named videos are given.
            mask: 1 = generate, 0 = keep; None means generate everywhere, or what ``controls.mask.annotator`` makes.
            videos: further videos that ``controls.structure`` reads, by name, frame for frame.
            last: no more frames will come. The last chunk is completed by repeating the last frame, and cut again.

        Raises:
            InputError: wrong size, length, layout, dtype, or values that are not finite; or nothing would use them.
            SessionError: the stream is closed, the control has ended, or the pipeline has no control weights.
        """
        self._check_open()
        composing = self._need_use_of_frames(mask is not None)
        given = self._reader.given(control, mask, {} if videos is None else videos)
        composing.composer.check(given)
        self._inbox.feed(given, last=last)

    def keyframe(
        self,
        pictures: Frames | ReferenceImage,
        mask: Frames | None = None,
        *,
        frame: int | None = None,
        end: int | None = None,
        chunks: int | None = None,
    ) -> None:
        """Land on a picture, or pass through a clip.

        Args:
            pictures: one picture (a path, a PIL image, [h, w, 3]) or several in order ([T, h, w, 3]), of `source_size`.
            mask: what of them is kept, 0 = keep; None keeps all.
            frame: number of the stream's frame on which the first of them falls; or
            end: the one on which the last of them falls, where -1 is the last of `num_frames`; or
            chunks: they end with the last frame of the chunk that is so many from now, 1 being the next one.

        Raises:
            InputError: not usable, too late, or not exactly one place. Nothing was placed.
            SessionError: the stream is closed, or the pipeline has no control weights.
        """
        self._check_open()
        self._need_control("keyframes")
        places = (("frame", frame), ("end", end), ("chunks", chunks))
        frame, end, chunks = (None if place is None else whole(name, place) for name, place in places)
        frames, keep = self._reader.keyframes(pictures, mask)
        self._inbox.anchor(frames, keep, partial(self._place, frames.shape[1], frame, end, chunks))

    def update(
        self,
        *,
        prompt: str | Sequence[str] | None = None,
        references: References | None = None,
        scale: float | HintScale | None = None,
        controls: Mapping[str, Any] | None = None,
    ) -> None:
        """Change what holds until changed. Takes effect at the next chunk; what is not named stays.

        Args:
            prompt: one for all rows, or one for each. The prompt that is in force already is no change.
            references: the new references; an empty list takes them away.
            scale: a number for control and references alike, or a `HintScale`.
            controls: other options of the control, by name: those in `vace_adapt.streaming.controls.LIVE`. Annotators
                whose options stay keep what they have seen.

        Raises:
            InputError: not usable; nothing was changed.
            SettingsError: options that are not valid, or that hold for a whole stream.
            SessionError: the stream is closed, or the pipeline has no control weights.
            Unsupported: another prompt inside a stream, where the pipeline declares no prompt switch.
        """
        self._check_open()
        for name, value in (("references", references), ("scale", scale), ("controls", controls)):
            if value is not None:
                self._need_control(name)
        changes = Changes(
            prompt=None if prompt is None else self._reader.prompt(prompt),
            references=None if references is None else (self._reader.references(references),),
            scale=None if scale is None else scale_of(scale),
        )
        if changes.prompt is not None and self._inbox.chunk > 0:
            self.engine.hooks.require("prompt_switch", self.engine.parts.layout)
        path = self._maker.path
        if changes.scale is not None and path is not None:
            path.check_scale(changes.scale)
        with self._changing:
            self._check_open()
            if controls is not None:
                changes = replace(changes, composing=self._changed(controls))
                self._composing = changes.composing
            if changes.references is not None:
                (self._references,) = changes.references
            self._scale = changes.scale or self._scale
            self._inbox.change(changes)

    def describe(self) -> Description:
        """Which task the inputs make from the next chunk on, what each of them feeds, and what is not used."""
        waiting, references, composing = self._inbox.next, self._references, self._composing
        return describe(
            Facts(
                settings=self._maker.settings if composing is None else composing.settings,
                scale=self._scale,
                fed=0 if waiting is None else self.waiting,
                time=self.shapes.time,
                frames=self.num_frames,
                videos=frozenset() if waiting is None else frozenset(waiting.videos),
                mask=waiting is not None and waiting.mask is not None,
                references=() if references is None else tuple(zip(references.roles, references.scales, strict=True)),
                anchors=tuple(self._inbox.anchors),
                next_chunk=self._inbox.chunk,
            )
        )

    # --- options of the control ---------------------------------------------------------------------------------------

    def _composer(self, settings: ControlSettings, before: Sequence[Composer] = ()) -> Composer:
        engine = self.engine
        steps, device = engine.parts.steps, str(engine.device)
        starts = engine.parts.starts_from_video
        return Composer(
            settings, self.shapes, self.batch, steps, device, engine.download, before, starts_from_video=starts
        )

    def _changed(self, given: Mapping[str, Any]) -> Composing:
        """The newest options with some of them replaced."""
        now = self._need_control("controls")
        settings = changed(now.settings, given)
        running = self._maker.composer
        return Composing(settings, self._composer(settings, [now.composer, *([] if running is None else [running])]))

    def _place(self, count: int, frame: int | None, end: int | None, chunks: int | None, next_chunk: int) -> int:
        """The frame on which the first of `count` keyframes falls."""
        if chunks is not None:
            if frame is not None or end is not None:
                raise InputError("a keyframe needs exactly one place: frame, end or chunks")
            if chunks < 1:
                raise InputError(f"chunks must be at least 1 (the next chunk), not {chunks}")
            end = self.shapes.time.pixel_start(next_chunk + chunks) - 1
        return first_frame(count, frame, end, self.num_frames)

    # --- checks -------------------------------------------------------------------------------------------------------

    def _check_length(self, frames: int) -> None:
        most = self.shapes.most_pixels
        if most is not None and frames > most:
            raise InputError(
                f"{frames} frames are more than the {most} that this pipeline can make without a window "
                f"({self.shapes.max_latents} latent frames)"
            )

    def _check_open(self) -> None:
        if self._closed is not None:
            raise SessionError(f"this stream {self._closed}")

    def _need_control(self, what: str) -> Composing:
        """The newest options of the control."""
        if self._composing is None or not self._controlled:
            raise _no_control_weights(what)
        return self._composing

    def _need_use_of_frames(self, mask: bool) -> Composing:
        """The newest options of the control; without any context blocks, frames can only be started from."""
        if self._composing is None:
            raise _no_control_weights("control frames")
        settings = self._composing.settings
        controls = settings.structure or mask or settings.mask.annotator is not None or settings.outpaint is not None
        if controls and not self._controlled and self.engine.parts.hinted_blocks is None:
            raise SessionError(
                "this pipeline has no control weights, so it can only start from the frames: load it with "
                "weights.control, or set controls.structure=[] and give no mask"
            )
        return self._composing


def _no_control_weights(what: str) -> SessionError:
    return SessionError(f"this pipeline has no control weights, so it takes no {what}: load it with weights.control")
