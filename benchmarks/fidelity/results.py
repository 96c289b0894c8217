"""What was measured, one line for each score, in ``benchmarks/results/fidelity.jsonl``.

A line names the weights it was measured with; lines of other weights count as not measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from arms import Arm

RESULTS = Path(__file__).parents[1] / "results"
SCORES = RESULTS / "fidelity.jsonl"


class Job(NamedTuple):
    """One generation and its score.

    Attributes:
        case: of `CASES`.
        arm: `Arm.key`.
        weights: `Arm.weights`.
        clip: number of the clip.
        seed: of the noise.
        frames: of the clip.
    """

    case: str
    arm: str
    weights: str
    clip: int
    seed: int
    frames: int


def job_of(case: str, arm: Arm, clip: int, seed: int, frames: int) -> Job:
    """The job that an arm is on a clip."""
    return Job(case, arm.key, arm.weights, clip, seed, frames)


def measured() -> dict[Job, float]:
    """Every score there is, by job."""
    return {Job(*line["job"]): line["score"] for line in _lines()}


def keep(job: Job, score: float, seconds: float) -> None:
    """Add one score."""
    with SCORES.open("a") as file:
        file.write(json.dumps({"job": job, "score": round(score, 5), "seconds": round(seconds, 3)}) + "\n")


def drop_all_but(weights: set[str]) -> None:
    """Forget what was measured with other weights."""
    lines = [json.dumps(line) + "\n" for line in _lines() if Job(*line["job"]).weights in weights]
    RESULTS.mkdir(exist_ok=True)
    unfinished = SCORES.with_suffix(".unfinished")
    unfinished.write_text("".join(lines))
    unfinished.replace(SCORES)


def _lines() -> Iterator[dict]:
    if SCORES.exists():
        yield from map(json.loads, SCORES.read_text().splitlines())
