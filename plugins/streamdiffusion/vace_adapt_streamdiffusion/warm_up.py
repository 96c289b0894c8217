"""What officially stands in the rows of a stream batch that no chunk has reached yet."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vace_adapt.contract import Chunk, HintSource, Level, SourceVideo


class WarmUp:
    """A chunk without anything, in the place of chunk 1 (`vace_adapt.contract.Chunk`). Nobody sees what becomes of it.

    Args:
        chunk: chunk 1, whose noise it has.
        index: at most 0.
    """

    def __init__(self, chunk: Chunk, index: int) -> None:
        self.index = index
        self.start = chunk.start
        self.frames = chunk.frames
        self.text = chunk.text
        self.prompt_changed = False
        self.reanchor: Mapping[int, Tensor] = {}
        self.video: SourceVideo | None = None
        self._chunk = chunk

    def noise(self, draw: int) -> Tensor:
        return self._chunk.noise(draw)

    def denoising(self, step: int, sigma: Level) -> HintSource | None:
        return None

    def unconditional(self, step: int, sigma: Level) -> HintSource | None:
        return None

    def keep(self, latents: Tensor) -> Tensor:
        return latents

    def clean_pass(self, sigma: float) -> HintSource | None:
        return None

    def recaching(self) -> HintSource | None:
        return None
