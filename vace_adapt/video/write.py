"""Video files out: H.264 in mp4, readable at every moment it has a name."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


class VideoWriter:
    """Writes frames to ``NAME.partial``; `close` makes it ``NAME``, `discard` removes it.

    Args:
        path: the mp4 to make.
        height, width: even numbers.
        rate: frames a second.
        quality: x264 constant rate factor.
    """

    def __init__(self, path: Path, height: int, width: int, rate: Fraction, quality: int) -> None:
        self.path = path
        self.frames = 0
        self._partial = path.with_name(path.name + ".partial")
        self._container = av.open(str(self._partial.absolute()), "w", format="mp4", options={"movflags": "faststart"})
        self._stream: Any = self._container.add_stream("libx264", rate=rate, options={"crf": str(quality)})
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "yuv420p"

    def write(self, frames: np.ndarray[Any, Any]) -> None:
        """Add uint8 frames [T, H, W, 3]."""
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            self._container.mux(self._stream.encode(picture))
            self.frames += 1

    def close(self) -> None:
        """Finish the file under its own name."""
        self._container.mux(self._stream.encode())
        self._container.close()
        self._partial.replace(self.path)

    def discard(self) -> None:
        """Leave nothing."""
        with suppress(OSError):  # closing writes, and what failed before may fail again
            self._container.close()
        self._partial.unlink(missing_ok=True)
