"""Every task of the README, run as its command says, on the bundled clip and the embedded pipeline."""

from __future__ import annotations

import json

import numpy as np
import pytest
from annotators.tiny_models import save_depth_anything, save_grounding_dino, save_sam2
from annotators.tiny_pose import save_rt_detr, save_vitpose
from PIL import Image
from support import ROOT
from tasks import CLIP, Task, frames, tasks, write_files

from vace_adapt.cli.main import main
from vace_adapt.config.compose import CONF

COUNT = 21
TASKS = tasks()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Tiny models of the real classes, as options of the annotators that need weights."""
    folder = tmp_path_factory.mktemp("weights")
    saved = {
        "depth.weights": save_depth_anything(folder / "depth"),
        "mask_sam2.weights": save_sam2(folder / "sam2"),
        "mask_grounding.weights": save_grounding_dino(folder / "grounding"),
        "mask_grounding.sam2_weights": folder / "sam2",
        "mask_grounding.threshold": 0.0,
        "pose.weights": save_vitpose(folder / "vitpose"),
        "pose.detector": save_rt_detr(folder / "detector"),
    }
    return saved


def overrides(task: Task, weights: dict) -> list[str]:
    """The row's own, on as many frames as the test files have, and with tiny weights."""
    named = " ".join(task.overrides)
    own = [f"frames={COUNT}" if part.startswith("frames=") else part for part in task.overrides]
    for name, option in weights.items():
        annotator = name.split(".")[0]
        used = {"mask_sam2": "inpaint_sam2", "mask_grounding": "inpaint_label", "pose": "task=pose "}.get(
            annotator, f"task={annotator}"
        )
        if used in named or (annotator == "pose" and "animate" in named):
            own.append(f"controls.annotators.{name}={option}")
    return own


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.title)
def test_task(task, folder, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    given = overrides(task, weights)
    assert main(["explain", *given]) == 0
    assert f"\ntask: {task.inferred}\n" in capsys.readouterr().out
    assert main(["run", *given, "area=1536", f"output.folder={tmp_path}/run"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["frames"] == COUNT
    assert any(chunk["controlled"] for chunk in metrics["chunks"])
    assert len(frames(tmp_path / "run" / "output.mp4")) == COUNT
    assert Image.open(tmp_path / "run" / "sheet.png").size[0] > 100


def test_every_preset_is_in_the_table_or_controls_nothing():
    presets = {path.stem for path in (CONF / "task").glob("*.yaml")}
    used = {part.removeprefix("task=") for task in TASKS for part in task.overrides if part.startswith("task=")}
    assert presets - used == {"text"}


def test_the_clip_that_the_tests_use_is_the_bundled_one():
    assert np.array_equal(frames(CLIP / "control.mp4").shape, (45, 96, 160, 3))
    assert CLIP.is_relative_to(ROOT)
