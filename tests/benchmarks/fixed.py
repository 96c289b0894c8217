"""Results with made-up numbers, and clocks that only move when they are told to."""

from __future__ import annotations

from typing import Any

PARTS = {"encode": 0.25, "context": 0.5, "base": 1.0, "clean": 0.25, "decode": 0.75, "rest": 0.0}
ROW = {"seconds": 2.0, "against": "base", "ratio": [1.0, 1.25, 1.5], "chunks": 4}
ROWS = {"base": ROW, "control": ROW | {"seconds": 3.0}}
SETTING = {
    "device": "A100", "dtype": "bfloat16", "compiled": False, "torch": "2.13.0", "python": "3.11", "date": "2026-01-02",
    "command": "python benchmarks/speed.py", "cores": 2, "load": None,
}  # fmt: skip


def result(**tables: list[dict[str, Any]]) -> dict[str, Any]:
    """A file of results."""
    return {
        "size": "mid",
        "backbone": {"dim": 384, "layers": 12},
        "control_layers": 6,
        "tables": {name: {"setting": SETTING, "groups": groups} for name, groups in tables.items()},
    }


class FakeTime:
    """Seconds that pass when something is done."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def costing(self, function: Any, seconds: Any) -> Any:
        """The function, which now takes that long: a number, or made of its arguments."""

        def costly(*args: Any, **kwargs: Any) -> Any:
            self.seconds += seconds(*args) if callable(seconds) else seconds
            return function(*args, **kwargs)

        return costly


class FakeEvent:
    """A CUDA event on a device whose queue is always empty."""

    time: FakeTime

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: object) -> None:
        self.at = self.time()

    def elapsed_time(self, end: FakeEvent) -> float:
        return 1000 * (end.at - self.at)
