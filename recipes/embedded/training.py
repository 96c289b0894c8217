"""A training run that can be killed at any point and goes on as if it had not been."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

REPORT_SECONDS, SAVE_SECONDS = 20, 60


class Stateful(Protocol):
    """A module or an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


class Training:
    """The steps of one stage.

    Everything random in a step comes from `generator`, which depends on the seed and on the step alone, so a run that
    goes on from a saved state makes the same weights as one that was never stopped.

    Args:
        folder: where ``state.pt`` lies, and ``losses.json`` for people; made if missing.
        steps: how many there are.
        seed: of the stage.
        parts: what has a state, by name.
    """

    def __init__(self, folder: Path, steps: int, seed: int, parts: Mapping[str, Stateful]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.steps = steps
        self.seed = seed
        self.parts = parts
        self.step = 0
        self.seconds = 0.0
        self.losses: dict[str, list[float]] = {}
        self._resume()

    @property
    def done(self) -> float:
        """The share of steps that are behind, 0..1."""
        return self.step / self.steps

    def __iter__(self) -> Iterator[torch.Generator]:
        """One generator of random numbers for each step that is left; state is saved on the way and at the end."""
        started, before = time.monotonic(), self.seconds
        reported = saved = started
        first = self.step
        while self.step < self.steps:
            yield torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
            self.step += 1
            now = time.monotonic()
            self.seconds = before + now - started
            if now - reported > REPORT_SECONDS:
                self._report((now - started) / (self.step - first))
                reported = now
            if now - saved > SAVE_SECONDS:
                self.save()
                saved = now
        self.save()
        self._report(0.0)

    def note(self, **losses: Tensor) -> None:
        """Keep the losses of this step."""
        for name, loss in losses.items():
            self.losses.setdefault(name, []).append(round(float(loss.detach()), 5))

    def save(self) -> None:
        """Write the state, whole or not at all."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        record = {"step": self.step, "steps": self.steps, "seconds": round(self.seconds, 1), "losses": self.losses}
        _replace(self.folder / "state.pt", lambda path: torch.save({"record": record, "parts": state}, path))
        _replace(self.folder / "losses.json", lambda path: path.write_text(json.dumps(record)))

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        if "record" not in state:
            raise SystemExit(f"{path} was made of what ships, and cannot go on: give --folder another folder")
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        record = state["record"]
        self.step, self.seconds, self.losses = record["step"], record["seconds"], record["losses"]

    def _report(self, pace: float) -> None:
        left = (self.steps - self.step) * pace
        newest = {name: sum(values[-50:]) / len(values[-50:]) for name, values in self.losses.items()}
        shown = "  ".join(f"{name} {value:.4f}" for name, value in newest.items())
        print(f"{self.folder.name} {self.step}/{self.steps}  {shown}  {left / 60:.1f} min left", flush=True)


def save_parts(folder: Path, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a state that other stages can begin from, without what its own stage needs to go on."""
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "state.pt", lambda path: torch.save({"parts": parts}, path))


def cooled(done: float, *, warm: float = 0.01, flat: float = 0.5) -> float:
    """Share of the learning rate: up over the first `warm` of the steps, then full, then linearly down from `flat`."""
    return min(1.0, done / warm + 0.02, max(0.0, (1 - done) / (1 - flat)))


def _replace(path: Path, write: Any) -> None:
    unfinished = path.with_suffix(".unfinished")
    write(unfinished)
    os.replace(unfinished, path)
