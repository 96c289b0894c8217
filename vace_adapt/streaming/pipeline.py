"""The pipeline a user holds: an engine that opens streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vace_adapt.controls import ControlSettings
from vace_adapt.errors import InputError
from vace_adapt.scale import HintScale
from vace_adapt.streaming.engine import Engine
from vace_adapt.streaming.reader import References, scale_of
from vace_adapt.streaming.session import Session
from vace_adapt.validation import validated, whole


class Pipeline(Engine):
    """What `load_pipeline` returns."""

    def stream(
        self,
        prompt: str | Sequence[str] = "",
        *,
        height: int,
        width: int,
        seed: int | Sequence[int] = 0,
        references: References = (),
        scale: float | HintScale | None = None,
        num_frames: int | None = None,
        controls: ControlSettings | dict[str, Any] | None = None,
    ) -> Session:
        """Open a stream.

        Args:
            prompt: one, or one for each batch row.
            height, width: pixels; multiples of 16 for Wan2.1.
            seed: one, or one for each row; a list of seeds makes a batch. Rows never influence each other.
            references: images that guide the whole stream; see `vace_adapt.conditioning.references`.
            scale: a number for control and references alike, or a `HintScale`; overrides ``controls.scale``.
            num_frames: pixel frames to make at most; a control that ends ends the stream before. None sets no limit.
            controls: further options.

        Returns:
            The session: feed it, iterate it, close it (or use ``with``).

        Raises:
            InputError: a size, seed, reference or scale that cannot be used. No memory was allocated.
            SettingsError: `controls` that are not valid.
        """
        settings = validated(ControlSettings, controls or {}, "controls")
        if scale is not None:
            settings = settings.model_copy(update={"scale": scale_of(scale)})
        height, width = whole("height", height), whole("width", width)
        num_frames = None if num_frames is None else whole("num_frames", num_frames)
        return Session(self, prompt, _seeds(seed), height, width, references, num_frames, settings)


def _seeds(seed: int | Sequence[int]) -> list[int]:
    """One for each batch row."""
    rows: Any = [seed] if isinstance(seed, (str, bytes)) or not isinstance(seed, Iterable) else seed
    seeds = [whole("seed", row) for row in rows]
    if not seeds:
        raise InputError("seed is an empty list: give one seed for each batch row")
    return seeds
