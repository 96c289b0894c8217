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


def test_switches_change_anything_from_a_chunk_on(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    switches = (
        "switches=[{chunk: 1, prompt: a blue ball on forest floor, references: [{image: b.png, scale: 0.5}], scale: {control: 0.5}, "
        "controls: {structure: [gray]}}]"
    )
    given = [
        "task=canny",
        "input=video.mp4",
        "references=[a.png]",
        "area=1536",
        "seed=3",
        "prompt=a red ball on navy floor",
    ]
    for name, more in (("with", [switches]), ("without", [])):
        assert main(["run", *given, *more, f"output.folder={tmp_path}/{name}"]) == 0
    made = [frames(tmp_path / name / "output.mp4").astype(int) for name in ("with", "without")]
    assert abs(made[0][:9] - made[1][:9]).max() < 30  # the same up to the codec, which looks ahead
    assert abs(made[0][9:] - made[1][9:]).mean() > 10


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["task=lastclip", "last=clip.mp4", "frames=3"], "keyframes that end with frame 2 would begin with frame -2"),
        (["task=keyframes", "keyframes=[{path: a.png, end: -22}]", "frames=21"], "would begin with frame -1"),
        (["task=canny", "input=video.mp4", "controls.annotators.canny.lo=5"], "controls.annotators.canny.lo: unknown key"),
        (["input=video.mp4", "controls.annotators.cany.low=5"], "no annotator 'cany'"),
        (["task=inpaint_box", "input=video.mp4"], "controls.annotators.mask_box: give either box or path"),
        (["task=inpaint_box", "input=video.mp4", "mask=mask.mp4"], "mask=... is given, and controls.mask.annotator=mask_box"),
        (["input=video.mp4", "videos.depth=depth.mp4"], "the video 'depth' is fed, and no control reads it"),
        (["input=video.mp4", "controls.scale.control_schedule.start_step=7"], "scale.control_schedule speaks of denoise step 7"),
        (["input=video.mp4", "controls.structure=[]"], "the frames would not be used"),
        (["task=text", "frames=9", "pipeline.sink=0", "controls.reanchor={every: 2, source: sink}"], "rebuilds the sink, and the memory of 12 latent frames has none"),
        (["task=text", "frames=9", "controls.reanchor={every: 2, source: keyframe}"], "controls.reanchor.source=keyframe needs first=..., last=... or keyframes=..."),
        (
            ["task=lastframe", "last=b.png", "frames=81", "controls.reanchor={every: 2, source: keyframe}"],
            "can come due at chunk 2, which ends with frame 32, and the first keyframe stands at frame 80: place one up to there",
        ),
        (
            ["task=keyframes", "keyframes=[{path: a.png, frame: 21}]", "frames=81", "controls.reanchor={every: 9, above: 1, source: keyframe}"],
            "can come due at chunk 1, which ends with frame 20, and the first keyframe stands at frame 21: place one up to there",
        ),
        (["task=text", "frames=9", "references=[people.json]"], "reference 0: 'people.json' is not an image"),
        (["task=text", "frames=9", "switches=[{chunk: 1}]"], "needs one of prompt, references, scale and controls"),
        (["task=text", "frames=21", "switches=[{chunk: 1, controls: {anchor: frame}}]"], "controls.anchor cannot change inside a stream"),
    ],
)  # fmt: skip
def test_explain_and_run_refuse_the_same(overrides, text, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for command in ("explain", "run"):
        assert main([command, *overrides, f"output.folder={tmp_path}/run"]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert told.count("\n") == 1
        assert text in told
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_reanchored(folder, tmp_path, monkeypatch):
    """Its metrics say before which chunks, and how far each of them has drifted."""
    monkeypatch.chdir(folder)
    given = ["task=keyframes", "keyframes=[{path: a.png, frame: 32}]", "frames=57", "height=32", "width=48"]
    rule = "controls.reanchor={every: 2, source: keyframe}"
    assert main(["run", *given, rule, f"output.folder={tmp_path}/run"]) == 0
    chunks = json.loads((tmp_path / "run" / "metrics.json").read_text())["chunks"]
    assert [chunk["reanchored"] for chunk in chunks] == [False, False, True, False, True]
    assert chunks[0]["drift"] == [0]
    assert all(chunk["drift"][0] > 0 for chunk in chunks[1:])


def test_explain_as_json(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["explain", "task=inpaint", "input=video.mp4", "mask=mask.mp4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["task"] == "inpainting (mask fed)"
    assert told["uses"][1] == {"input": "mask (mask fed)", "feeds": "mask 32-95", "chunks": "0-1"}


def test_every_preset_is_in_the_table_or_controls_nothing():
    presets = {path.stem for path in (CONF / "task").glob("*.yaml")}
    used = {part.removeprefix("task=") for task in TASKS for part in task.overrides if part.startswith("task=")}
    assert presets - used == {"text"}


def test_the_clip_that_the_tests_use_is_the_bundled_one():
    assert np.array_equal(frames(CLIP / "control.mp4").shape, (45, 64, 64, 3))
    assert CLIP.is_relative_to(ROOT)
