"""Run folders that were never run: what a page needs of them, made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from cli.runs import write

from vace_adapt.comparison.page import page
from vace_adapt.experiments.finished import FinishedRun, read_run
from vace_adapt.experiments.measure import measure
from vace_adapt.experiments.record import Machine, Record


def run_folder(folder: Path, seconds: float = 1.0, **changed: object) -> Path:
    """A run of 21 frames in two chunks at 10 frames a second."""
    folder.mkdir(parents=True)
    for name, value in (("output.mp4", None), ("control.mp4", 90), ("mask.mp4", 255)):
        write(folder / name, 21, value=value)
    config = {"pipeline": {"name": "longlive", "window": 12}, "task": {"name": "control"}, "prompt": "a <red> ball",
              "seed": 0, "weights": {"base": None, "vae": None, "control": None},
              "output": {"folder": str(folder)}, **changed}  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    chunks = [
        {"index": i, "pixels": pixels, "seconds": seconds * (i + 1), "cache_bytes": 2**20, "peak_memory_bytes": 2**28}
        for i, pixels in enumerate((9, 12))
    ]
    metrics = {"frames": 21, "trained": True, "dtype": "float32", "chunks": chunks}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    record = Record(
        config_hash="", folder=folder, versions={"torch": "2"}, git=None, inputs=(), weights={},
        machine=Machine(system="a", device="cpu", threads=1), capabilities={"sink": "full", "bank": "unsupported: <none>"},
    )  # fmt: skip
    (folder / "run.json").write_text(record.model_dump_json())
    return folder


def example_runs(folder: Path) -> list[FinishedRun]:
    folders = [run_folder(folder / "one"), run_folder(folder / "two", seconds=2.0, seed=1)]
    return [read_run(one) for one in folders]


def example_page(folder: Path) -> str:
    runs = example_runs(folder)
    return page(runs, [measure(run) for run in runs])
