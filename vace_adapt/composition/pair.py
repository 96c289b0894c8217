"""Two finished pairs of frames and mask made into one, as ali-vilab/VACE vace/annotators/composition.py does.

For inputs that were prepared elsewhere. `vace_adapt.composition.composer` does the same with the inputs themselves.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from vace_adapt.errors import InputError

Array = np.ndarray[Any, Any]
Kind = Literal["extension", "repaint", "control"]


class Pair(NamedTuple):
    """Frames [T, H, W, 3] of any dtype, and their mask uint8 [T, H, W], 255 = generate, 0 = keep."""

    frames: Array
    mask: Array


def combine(first: Pair, second: Pair, kinds: tuple[Kind, Kind], *, as_vace: bool = False) -> Pair:
    """Put two pairs together.

    An extension (kept frames at some times) lies over anything, whichever of the two it is; a control fills what the
    other repaints; of two repaintings, and of two controls, the second lies over the first where its mask generates.

    Args:
        first, second: of the same size; the longer one is cut to the shorter.
        kinds: what they are.
        as_vace: VACE puts an extension given second *under* the first, so that the frames it keeps are lost. True does
            the same.

    Returns:
        New arrays.

    Raises:
        InputError: two pairs of different sizes, or a pair whose mask has not its size.
    """
    count = min(len(first.frames), len(second.frames))
    for pair in (first, second):
        if pair.frames.shape[:-1] != pair.mask.shape or pair.frames.shape[1:] != first.frames.shape[1:]:
            raise InputError(
                f"frames {list(pair.frames.shape)} and mask {list(pair.mask.shape)} do not go together with frames "
                f"{list(first.frames.shape)}"
            )
    first, second = (Pair(pair.frames[:count], pair.mask[:count]) for pair in (first, second))
    if kinds[0] == "extension":
        return _over(first, second)
    if kinds[1] == "extension" and not as_vace:
        return _over(second, first)
    if kinds == ("repaint", "control"):
        return _filled(first, second)
    if kinds == ("control", "repaint"):
        return _filled(second, first)
    generates = second.mask > 127
    frames = np.where(generates[..., None], second.frames, first.frames)
    return Pair(frames, np.where(generates, 255, first.mask).astype(np.uint8))


def _over(upper: Pair, lower: Pair) -> Pair:
    """What the upper keeps, over the lower."""
    keeps = upper.mask <= 127
    return Pair(np.where(keeps[..., None], upper.frames, lower.frames), np.where(keeps, 0, lower.mask).astype(np.uint8))


def _filled(repainted: Pair, control: Pair) -> Pair:
    """The control where the other is generated."""
    generates = repainted.mask > 127
    return Pair(np.where(generates[..., None], control.frames, repainted.frames), repainted.mask.copy())
