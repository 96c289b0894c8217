"""Everything that was given for a chunk, put together: one picture and one mask for every frame.

A frame is made of four layers. From above: what an anchor keeps (a keyframe or a clip), what the mask keeps of the
source video, what the structural controls show where the mask generates, and mid-gray, which means "nothing given".
Outpainting places all of it on a larger canvas, whose rest is to be generated. This covers the combinations of
ali-vilab/VACE vace/annotators/composition.py: extension over anything, repainting over anything but an extension, a
control inside what is repainted, a control over a control.

Shapes: B rows, T frames, H and W of the stream, h and w of the source (the same without outpainting), S denoise steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from einops import reduce, repeat
from torch import Tensor

from vace_adapt.composing import MAIN
from vace_adapt.composition.anchors import Anchored
from vace_adapt.composition.canvas import Placement, canvas_mask, on_canvas, place_in
from vace_adapt.composition.masking import Masks
from vace_adapt.composition.pool import AnnotatorPool
from vace_adapt.composition.refuse import check_given, check_options, ready_made, videos_read
from vace_adapt.composition.steering import Steered, Steering
from vace_adapt.conditioning.pixels import frames_to_pixels, mask_to_pixels, to_unit
from vace_adapt.contract import Canvas, ChunkShapes
from vace_adapt.controls import ControlSettings
from vace_adapt.errors import InputError


@dataclass(frozen=True)
class Given:
    """What was fed for some frames.

    Attributes:
        videos: by name, uint8 or float [B, T, h, w, 3].
        mask: uint8 or float [B, T, h, w]; None generates everywhere.
    """

    videos: Mapping[str, Tensor]
    mask: Tensor | None

    @property
    def frames(self) -> int:
        """Their number T."""
        return next(iter(self.videos.values())).shape[1]

    def between(self, start: int, stop: int) -> Given:
        """Frames ``start .. stop-1`` of it."""
        videos = {name: video[:, start:stop] for name, video in self.videos.items()}
        return Given(videos, None if self.mask is None else self.mask[:, start:stop])


@dataclass(frozen=True)
class Composed:
    """What VACE is fed for a chunk.

    Attributes:
        frames: float32 [B, 3, T, H, W] in [-1, 1].
        mask: float32 [B, 1, T, H, W] in [0, 1], or None for all 1.
        factors: float32 [S, B, F, rows, columns]: scales of the control by token, or None for 1 everywhere.
        pixels: source and mask for ``preserve: pixel``, shaped as these, where they differ: without the frames that a
            keyframe merely fills, so that the video does not stand still around it.
        source: what is kept, whole: float32 [B, 3, T, H, W] in [-1, 1]; None where `mask` is.
    """

    frames: Tensor
    mask: Tensor | None
    factors: Tensor | None = None
    source: Tensor | None = None
    pixels: tuple[Tensor, Tensor] | None = None


class Composer:
    """Puts the inputs of one stream together, chunk by chunk and in order.

    Args:
        settings: options of the control.
        shapes: of the stream.
        batch: its rows B.
        steps: denoise steps S of a chunk.
        device: where annotators run and frames are put together, as torch writes it.
        download: whether annotators may fetch weights.
        before: the stream's composers under other options, newest first, whose annotators are taken over where they
            stay.
        starts_from_video: whether the base starts from the main video, so that it is used in any case.

    Raises:
        InputError, SettingsError, PluginError, CheckpointError: an annotator that cannot be used.
    """

    def __init__(
        self,
        settings: ControlSettings,
        shapes: ChunkShapes,
        batch: int,
        steps: int,
        device: str,
        download: bool,
        before: Sequence[Composer] = (),
        *,
        starts_from_video: bool = False,
    ) -> None:
        self._settings = settings
        self._starts_from_video = starts_from_video
        self._device = device
        self._shapes = shapes
        self._batch = batch
        self._placement: Placement | None = None
        height, width = shapes.pixel_height, shapes.pixel_width
        if settings.outpaint is not None:
            self._placement = place_in(height, width, settings.outpaint)
            height, width = self._placement.source_height, self._placement.source_width
        self.source_size = height, width
        check_options(settings, steps)
        self._reads = videos_read(settings)
        canvas = Canvas(height, width, device, download)
        self._pool: AnnotatorPool = AnnotatorPool(canvas, batch, [composer._pool for composer in before])
        self._steered = Steered(settings, self._pool, steps)
        self._masks = Masks(settings, self._pool)
        self._pool.settle()
        if not before:
            self._check_first_chunk()

    # --- what may be given --------------------------------------------------------------------------------------------

    def check(self, given: Given) -> None:
        """Refuse what would not be used or contradicts the options; see `check_given`.

        Raises:
            InputError: with the reason.
        """
        check_given(
            self._settings,
            self._reads,
            given.videos,
            mask=given.mask is not None,
            starts=self._starts_from_video and not ready_made(self._settings),
        )

    @property
    def generates(self) -> bool:
        """Whether chunks are controlled for which nothing is fed."""
        return self._steered.generates or self._settings.idle == "nothing"

    def video(self, given: Given | None) -> Tensor | None:
        """The main video as a base starts from it, on the canvas: float32 [B, 3, T, H, W] in [-1, 1].

        Returns:
            None where there is none, or where it is a ready-made control.
        """
        main = None if given is None else given.videos.get(MAIN)
        if main is None or ready_made(self._settings):
            return None
        frames = to_unit(main.to(self._device))
        if self._placement is not None:
            frames = on_canvas(frames, self._placement, self._settings.blank / 255)
        return frames_to_pixels(frames)

    # --- one chunk ----------------------------------------------------------------------------------------------------

    def __call__(self, chunk: int, given: Given | None, anchored: Anchored | None) -> Composed | None:
        """Put a chunk together. Chunks come in order, each once.

        Args:
            chunk: its number.
            given: what was fed for it; None for nothing.
            anchored: its keyframes and clips; None for none.

        Returns:
            None where nothing is given.
        """
        count, start = self._shapes.time.pixels(chunk), self._shapes.time.pixel_start(chunk)
        videos = {} if given is None else given.videos
        main = videos.get(MAIN)
        mask = self._masks(main, None if given is None else given.mask, start)
        mask = None if mask is None else mask.to(self._device)
        steering = self._steered(videos, chunk, start, count, self._batch)
        kept_somewhere = main is not None and (mask is not None or self._placement is not None)
        if not kept_somewhere and steering is None and anchored is None and self._settings.idle == "bare":
            return None
        kept = self._blank(count) if main is None else to_unit(main.to(self._device))
        if mask is None and (anchored is not None or self._placement is not None):
            fill = 0.0 if self._placement is not None and main is not None else 1.0
            mask = torch.full(kept.shape[:-1], fill, device=self._device)
        if anchored is None:
            return self._finished(chunk, kept, mask, steering)
        made = self._finished(chunk, *_over(anchored, kept, mask), steering)
        if self._settings.preserve != "pixel" or not anchored.filled.any():
            return made
        exact = replace(anchored, at=anchored.at & ~anchored.filled)
        other = self._finished(chunk, *_over(exact, kept, mask), steering)
        assert other.source is not None
        assert other.mask is not None
        return replace(made, pixels=(other.source, other.mask))

    def _finished(self, chunk: int, kept: Tensor, mask: Tensor | None, steering: Steering | None) -> Composed:
        """What is kept over what steers, on the canvas."""
        blank = self._settings.blank / 255
        shown = self._blank(kept.shape[1]) if steering is None else steering.over(blank)
        scales = None if steering is None or steering.scales is None else _where_generated(steering, mask)
        if mask is None:
            return Composed(frames_to_pixels(shown), None, self._by_token(scales, chunk))
        picture = torch.where(mask[..., None] > 0.5, shown, kept)
        if self._placement is not None:
            picture, kept = (on_canvas(frames, self._placement, blank) for frames in (picture, kept))
            mask = self._placed_mask(mask)
            scales = None if scales is None else on_canvas(scales[..., None], self._placement, 1.0)[..., 0]
        return Composed(
            frames_to_pixels(picture), mask_to_pixels(mask), self._by_token(scales, chunk), frames_to_pixels(kept)
        )

    def _blank(self, count: int) -> Tensor:
        size = (self._batch, count, *self.source_size, 3)
        return torch.full(size, self._settings.blank / 255, device=self._device)

    def _placed_mask(self, mask: Tensor) -> Tensor:
        """A mask [B, T, h, w] on the canvas: what is around the source is to be generated."""
        assert self._placement is not None
        assert self._settings.outpaint is not None
        placed = on_canvas(mask[..., None], self._placement, 1.0)[..., 0]
        if not self._settings.outpaint.vace_edge:
            return placed
        edge = canvas_mask(self._placement) != canvas_mask(self._placement, vace_edge=True)
        return placed.masked_fill(torch.from_numpy(edge).to(self._device), 0.0)

    def _by_token(self, scales: Tensor | None, chunk: int) -> Tensor | None:
        """Scales [S, B, T, H, W] as their mean over each token's pixels, [S, B, F, rows, columns]."""
        if scales is None:
            return None
        time = self._shapes.time
        rows, columns = self._shapes.grid
        by_frame = reduce(scales, "s b t (r p) (c q) -> s b t r c", "mean", r=rows, c=columns)
        by_latent = [by_frame[:, :, group.start : group.stop].mean(dim=2) for group in time.groups(chunk)]
        return torch.stack(by_latent, dim=2)

    def _check_first_chunk(self) -> None:
        needed, first = max(self._steered.first_frames, self._masks.first_frames), self._shapes.time.pixels(0)
        if needed > first:
            raise InputError(f"an annotator needs {needed} frames at first, the first chunk has {first}")


def _over(anchored: Anchored, kept: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Anchors over what is kept [B, T, h, w, 3] and its mask [B, T, h, w], where they keep something."""
    assert mask is not None
    device = kept.device
    keeps = anchored.mask.to(device)
    chosen = anchored.at.to(device)[None, :, None, None] & (keeps <= 0.5)
    return torch.where(chosen[..., None], anchored.frames.to(device), kept), torch.where(chosen, keeps, mask)


def _where_generated(steering: Steering, mask: Tensor | None) -> Tensor:
    """The scales [S, B, T, h, w]: 1 where a pixel is kept."""
    assert steering.scales is not None
    by_frame = repeat(steering.scales, "s h w -> s b t h w", b=steering.frames.shape[0], t=steering.frames.shape[1])
    return by_frame if mask is None else torch.where(mask > 0.5, by_frame, 1.0)
