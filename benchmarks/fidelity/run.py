"""Measure streaming VACE against batch VACE: ``python benchmarks/fidelity/run.py``, then ``report.py`` beside it.

Every score is a line of ``benchmarks/results/fidelity.jsonl``; what is there is not measured again, so a run can be
stopped at any time. The file names the weights it was measured with; other weights begin a new one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from cases import CASES
from tables import TABLES, Table

from vace_adapt.embedded.family import FAMILY_FOLDER
from vace_adapt.loading import load_plugin

RESULTS = Path(__file__).parents[1] / "results" / "fidelity.jsonl"
SEEDS = (0, 1, 2)

Job = tuple[str, str, str, int, int]
"""Table, case, arm, clip, seed."""


def jobs(tables: tuple[Table, ...]) -> Iterator[Job]:
    """Everything to be measured: first one clip of everything, then the next."""
    for clip in range(max(table.clips for table in tables)):
        for table in tables:
            if clip < table.clips:
                for case in table.cases:
                    for arm in table.arms:
                        for seed in SEEDS if arm.kind in ("batch", "stream") else SEEDS[:1]:
                            yield table.name, case, arm.name, clip, seed


def measure(job: Job) -> tuple[Job, float, float]:
    """The score of one job, and its seconds."""
    torch.set_num_threads(1)
    name, case, arm, clip, seed = job
    (table,) = (table for table in TABLES if table.name == name)
    (chosen,) = (each for each in table.arms if each.name == arm)
    started = time.monotonic()
    return job, chosen(CASES[case], clip, seed, table.frames), time.monotonic() - started


def weights_hash() -> str:
    """Of every embedded file that takes part."""
    files = sorted(FAMILY_FOLDER.rglob("*.safetensors"))
    embedded = load_plugin("longlive").embedded()
    digest = hashlib.sha256()
    for path in (*files, *([] if embedded is None else [Path(embedded)])):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def known(weights: str) -> set[Job]:
    """What was measured with these weights; another file is put aside."""
    if not RESULTS.exists():
        return set()
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    if not lines or lines[0]["weights"] != weights:
        RESULTS.rename(RESULTS.with_suffix(".old.jsonl"))
        return set()
    return {tuple(line["job"]) for line in lines[1:]}


def main() -> None:
    """Measure what is not known yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--tables", nargs="*", default=[table.name for table in TABLES])
    given = parser.parse_args()
    chosen = tuple(table for table in TABLES if table.name in given.tables)
    weights = weights_hash()
    done = known(weights)
    todo = [job for job in jobs(chosen) if job not in done]
    RESULTS.parent.mkdir(exist_ok=True)
    if not RESULTS.exists():
        _append({"weights": weights, "torch": torch.__version__})
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(given.workers) as pool:
        for number, (job, score, seconds) in enumerate(pool.imap_unordered(measure, todo), start=1):
            _append({"job": job, "score": round(score, 5), "seconds": round(seconds, 3)})
            if number % 20 == 0:
                left = (time.monotonic() - started) / number * (len(todo) - number) / 60
                print(f"{number}/{len(todo)}  {left:.0f} min left", flush=True)


def _append(record: dict[str, Any]) -> None:
    with RESULTS.open("a") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
