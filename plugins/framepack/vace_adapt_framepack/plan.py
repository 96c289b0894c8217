"""Which sections a video is made of, in which order, and at which frame indices the model sees what.

A section is what is denoised at once. Besides its noisy latent frames the model sees clean ones: the start frame and
the nearest frame as they are (1x), two more at half and sixteen more at a quarter of the resolution in time, height and
width (2x, 4x). Every frame has an index, from which its rotary position is made.

Facts: lllyasviel/FramePack demo_gradio_f1.py (``forward``), demo_gradio.py (``inverted``), and diffusers
pipelines/helios/pipeline_helios.py (the indices of ``forward``).
"""

from __future__ import annotations

from dataclasses import dataclass

HISTORY = (16, 2, 1)
"""Latent frames at 4x, 2x and 1x, besides the start frame."""


@dataclass(frozen=True)
class SectionLayout:
    """Frame indices of one section.

    Attributes:
        noisy: of the section's own frames.
        clean: of the start frame and of the nearest one.
        mid: of the frames at 2x.
        far: of the frames at 4x.
    """

    noisy: tuple[int, ...]
    clean: tuple[int, ...]
    mid: tuple[int, ...]
    far: tuple[int, ...]


def forward_layout(frames: int, history: tuple[int, int, int] = HISTORY) -> SectionLayout:
    """Every section of a video that is made from its start: start, 4x, 2x, 1x, then `frames` noisy ones."""
    far, mid, near, noisy = _in_a_row(1, *history, frames)
    return SectionLayout(noisy, (0, *near), mid, far)


def inverted_layout(frames: int, padding: int, history: tuple[int, int, int] = HISTORY) -> SectionLayout:
    """A section of a video that is made from its end: what is given lies behind it.

    Args:
        frames: noisy latent frames.
        padding: sections between the start frame and this one.
        history: latent frames at 4x, 2x and 1x.
    """
    far, mid, near = history
    noisy, near_, mid_, far_ = _in_a_row(1 + frames * padding, frames, near, mid, far)
    return SectionLayout(noisy, (0, *near_), mid_, far_)


def paddings(sections: int) -> tuple[int, ...]:
    """Of every section of an inverted video, in the order of making.

    Over four sections these are not real distances: 3, then 2s, then 1 and 0, so that the model sees no index far from
    those it was trained on.
    """
    if sections > 4:
        return (3, *(2,) * (sections - 3), 1, 0)
    return tuple(reversed(range(sections)))


def in_time(order: int, sections: int, *, inverted: bool) -> int:
    """Which section in time the one is that is made as number `order`; never to be derived from its padding."""
    return sections - 1 - order if inverted else order


def _in_a_row(start: int, *counts: int) -> list[tuple[int, ...]]:
    found = []
    for count in counts:
        found.append(tuple(range(start, start + count)))
        start += count
    return found
