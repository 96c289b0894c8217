"""The annotators of one stream, one for each batch row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vace_adapt.annotators.find import make_annotator
from vace_adapt.contract import Annotator, Canvas


class AnnotatorPool:
    """Makes annotators. One that was there before, with the same options, is taken over with all it has seen.

    Args:
        canvas: where they work.
        batch: rows B.
        before: pools of the same stream under other options of the control, newest first.
    """

    def __init__(self, canvas: Canvas, batch: int, before: Sequence[AnnotatorPool] = ()) -> None:
        self.canvas = canvas
        self.batch = batch
        self._before = {key: held for pool in reversed(before) for key, held in pool._held.items()}
        self._held: dict[tuple[str, int], list[Annotator]] = {}

    def settle(self) -> None:
        """Let go what was not taken over."""
        self._before = {}

    def rows(self, name: str, options: Mapping[str, Any], purpose: str) -> list[Annotator]:
        """An annotator for each row.

        Args:
            name: entry-point name.
            options: its settings.
            purpose: what it is used for; two uses of the same purpose, name and options each get their own.
        """
        told = json.dumps([name, dict(options), purpose], sort_keys=True, default=str)
        key = told, sum(other == told for other, _ in self._held)
        held = self._before.get(key) or [make_annotator(name, options, self.canvas) for _ in range(self.batch)]
        self._held[key] = held
        return held
