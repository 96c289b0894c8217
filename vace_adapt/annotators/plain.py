"""The frames as they are: a control video that was made elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array


class Plain:
    """Gives back what it gets."""

    def __call__(self, frames: Array, start: int) -> Array:
        return frames

    def pause(self) -> None:
        """It remembers nothing."""


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="plain",
        hook_api=HOOK_API,
        summary="the frames as they are: a ready-made control video",
        makes="control",
        settings=AnnotatorSettings,
        make=_make,
    )


def _make(settings: AnnotatorSettings, canvas: Canvas) -> Plain:
    return Plain()
