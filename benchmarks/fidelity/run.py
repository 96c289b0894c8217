"""Measure streaming VACE against batch VACE: ``python benchmarks/fidelity/run.py``, then ``report.py`` beside it.

What was measured with these weights is not measured again, so a run can be stopped at any time. A pipeline whose plugin
ships a student has its rows without more.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator

import torch
from arms import Arm
from cases import CASES
from convolution import OneDnn
from questions import TABLES, Table
from results import Job, drop_all_but, job_of, keep, measured


def jobs(tables: tuple[Table, ...]) -> Iterator[tuple[Job, Arm]]:
    """Everything to be measured: first one clip of everything, then the next."""
    for clip in range(max(table.clips_of(case) for table in tables for case in table.cases)):
        for table in tables:
            for case in (case for case in table.cases if clip < table.clips_of(case)):
                for arm in table.arms:
                    for seed in table.seeds_of(arm):
                        yield job_of(case, arm, clip, seed, table.frames), arm


def measure(work: tuple[Job, Arm]) -> tuple[Job, float, float]:
    """The score of one job, and its seconds."""
    torch.set_num_threads(1)
    job, arm = work
    started = time.monotonic()
    with OneDnn():
        score = arm(CASES[job.case], job.clip, job.seed, job.frames)
    return job, score, time.monotonic() - started


def main() -> None:
    """Measure what is not known yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--tables", nargs="*", default=[table.name for table in TABLES])
    given = parser.parse_args()
    drop_all_but({arm.weights for table in TABLES for arm in table.arms})
    known = measured()
    todo = {job: arm for job, arm in jobs(tuple(t for t in TABLES if t.name in given.tables)) if job not in known}
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(given.workers) as pool:
        for number, (job, score, seconds) in enumerate(pool.imap_unordered(measure, todo.items()), start=1):
            keep(job, score, seconds)
            if number % 20 == 0:
                left = (time.monotonic() - started) / number * (len(todo) - number) / 60
                print(f"{number}/{len(todo)}  {left:.0f} min left", flush=True)


if __name__ == "__main__":
    main()
