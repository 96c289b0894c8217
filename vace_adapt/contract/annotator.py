"""What an annotator plugin declares and makes. Importing this imports neither torch nor OpenCV.

An annotator turns the frames of a stream into what VACE is controlled with: a control picture for every frame (depth,
pose, edges, ...) or a mask (a tracked object). Frames are uint8 RGB; T is the number of frames of a call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vace_adapt.contract.declaration import Frozen

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class AnnotatorSettings(Frozen):
    """Base of every annotator's own options (``controls.annotators.NAME``)."""


class Annotator(Protocol):
    """The annotator of one stream (one batch row). It may keep what it has seen, nothing of another stream."""

    def __call__(self, frames: Array, start: int) -> Array:
        """Annotate the next frames.

        Args:
            frames: uint8 [T, H, W, 3], RGB, contiguous, T >= 1; the annotator must not change them. One that reads
                nothing gets gray frames of the right number and size.
            start: number of the first of them in the stream.

        Returns:
            One picture for each frame, of the same size: uint8 [T, H, W, 3] RGB (a control), or uint8 [T, H, W], 255 =
            generate, 0 = keep (a mask). However a video is cut into calls, the pictures are the same, bit for bit.

        Raises:
            InputError: the frames do not show what is needed (a label that is not found, say).
        """
        ...

    def pause(self) -> None:
        """The next frames do not follow the last ones: nothing was given in between."""
        ...


@dataclass(frozen=True)
class Canvas:
    """Where an annotator works.

    Attributes:
        height, width: of the frames it will get.
        device: for its model, as torch writes it.
        download: whether weights may be fetched.
    """

    height: int
    width: int
    device: str = "cpu"
    download: bool = False


def _one(settings: Any) -> int:
    return 1


@dataclass(frozen=True)
class AnnotatorInfo:
    """Who an annotator is (`vace_annotator`).

    Attributes:
        name: equals the entry-point name.
        hook_api: the `vace_adapt.hookspecs.HOOK_API` it was written against.
        summary: one line for people: what the pictures are.
        makes: ``control`` pictures that steer, or a ``mask``.
        settings: the pydantic model of its options.
        make: settings and canvas to the annotator of one stream. Checks both, reads the weights.
        reads: ``frames``, or ``nothing`` where the pictures come from the options alone.
        state: what it carries from frame to frame, in words; empty for nothing.
        weights: hub id of the weights it uses where no other are named; None if it has none.
        extra: the extra of ``pip install vace-adapt[...]`` that it needs; None if it needs none.
        first_frames: settings to the number of frames its first call needs, for pictures that do not depend on how the
            video is cut.
    """

    name: str
    hook_api: int
    summary: str
    makes: Literal["control", "mask"]
    settings: type[AnnotatorSettings]
    make: Callable[[Any, Canvas], Annotator]
    reads: Literal["frames", "nothing"] = "frames"
    state: str = ""
    weights: str | None = None
    extra: str | None = None
    first_frames: Callable[[Any], int] = _one
