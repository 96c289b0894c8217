"""Sweeps: every combination once, a stopped one goes on, a run once more makes the same bits."""

from __future__ import annotations

import json
import os

import pytest
from cli.runs import SMALL, files, write

from vace_adapt.cli.main import main
from vace_adapt.config.free_text import split_free_text
from vace_adapt.config.read import settings_from
from vace_adapt.experiments import start as starting
from vace_adapt.experiments.folder import claimed
from vace_adapt.experiments.record import Machine, Record, config_hash, input_marks
from vace_adapt.experiments.rerun import compare_records
from vace_adapt.experiments.sweep import LAUNCHER, sweep

TEXT = ["task=text", "frames=9", *SMALL]


@pytest.fixture
def made(monkeypatch):
    """Runs that write their record alone; a list of the settings that were run."""
    calls = []

    def start(settings, source, *, progress, clear):
        with claimed(settings.output.folder, "a", clear) as folder:
            calls.append(settings)
            if settings.seed == 13:
                raise starting_error
            record = Record(
                config_hash=config_hash(settings), folder=folder, versions={}, git=None, weights={},
                machine=Machine(system="", device="cpu", threads=1), inputs=input_marks(settings),
                interrupted=settings.seed == 7,
            )  # fmt: skip
            (folder / "run.json").write_text(record.model_dump_json())
        return type("Result", (), {"interrupted": settings.seed == 7})()

    starting_error = KeyboardInterrupt()
    monkeypatch.setattr(starting, "start", start)
    return calls


def states(outcomes):
    return [outcome.state for outcome in outcomes]


def test_every_combination_has_a_folder_that_says_what_it_is(tmp_path, made):
    swept = ["pipeline=longlive,memflow", "controls.scale=0.5,1", *TEXT, f"output.folder={tmp_path / 's'}"]
    folder, outcomes = sweep(swept)
    assert states(outcomes) == ["made"] * 4
    assert [name.rpartition("-")[0] for name in files(folder) if name != LAUNCHER] == [
        "longlive-scale=0.5", "longlive-scale=1", "memflow-scale=0.5", "memflow-scale=1",
    ]  # fmt: skip
    assert [(run.pipeline.name, run.controls.scale.control, run.controls.scale.references) for run in made] == [
        (name, scale, scale) for name in ("longlive", "memflow") for scale in (0.5, 1)
    ]


def test_finished_runs_are_not_made_again_others_are(tmp_path, made):
    def go(*seeds: str):
        return states(sweep([*TEXT, f"seed={','.join(seeds)}", f"output.folder={tmp_path / 's'}"])[1])

    assert go("1", "2") == ["made", "made"]
    assert go("1", "2", "3") == ["finished before", "finished before", "made"]
    with pytest.raises(KeyboardInterrupt):
        go("2", "13", "4")
    assert go("2", "4") == ["finished before", "made"], "what was killed before it was made is made"
    assert [run.seed for run in made] == [1, 2, 3, 13, 4]


def test_an_interrupted_run_is_made_again(tmp_path, made):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            sweep([*TEXT, "seed=7", f"output.folder={tmp_path / 's'}"])
    assert [run.seed for run in made] == [7, 7]


def test_a_run_whose_input_has_changed_is_made_again(tmp_path, made):
    video = write(tmp_path / "in.mp4", 9)
    given = [f"input={video}", "task=control", "seed=1,2", *SMALL, f"output.folder={tmp_path / 's'}"]
    assert states(sweep(given)[1]) == ["made", "made"]
    os.utime(video, ns=(1, 1))
    assert states(sweep(given)[1]) == ["finished before"] * 2
    video.unlink()
    write(video, 9, value=7)
    assert states(sweep(given)[1]) == ["made", "made"]


def test_a_wrong_run_does_not_stop_the_others(tmp_path, made, capsys):
    given = ["-m", *TEXT, "seed=1,2", "controls.scale.control=1,-1", f"output.folder={tmp_path / 's'}"]
    assert main(["run", *given]) == 1
    printed = capsys.readouterr().out
    assert printed.count("a scale must be within 0..100, not -1.0") == 2
    assert "4 runs: 2 made, 2 failed" in printed


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("pipeline=longlive,longlve", "no pipeline 'longlve'"),
        ("sed=1,2", "sed: unknown key; did you mean 'seed'?"),
        ("hydra/launcher=none", "hydra/launcher=none: unknown (known: "),
    ],
)
def test_a_wrong_name_is_said_before_anything_is_made(tmp_path, made, capsys, wrong, text):
    assert main(["run", "-m", *TEXT, wrong, f"output.folder={tmp_path / 's'}"]) == 2
    assert text in capsys.readouterr().err
    assert (made, list(tmp_path.iterdir())) == ([], [])


def test_the_same_command_has_the_same_folder(tmp_path, made, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, _ = sweep([*TEXT, "seed=1,2"])
    again, outcomes = sweep(["seed=1,2", *TEXT])
    assert first == again
    assert states(outcomes) == ["finished before"] * 2
    assert sweep([*TEXT, "seed=1,3"])[0] != first


def test_texts_are_swept_where_each_is_quoted(tmp_path, made):
    assert split_free_text(["prompt=a, b"], sweep=True) == ({"prompt": "a, b"}, [])
    assert split_free_text(["prompt='a','b'"]) == ({"prompt": "'a','b'"}, [])
    sweep([*TEXT, "prompt='a, red','it\\'s'", f"output.folder={tmp_path / 's'}"])
    assert [run.prompt for run in made] == ["a, red", "it's"]


def test_a_number_is_both_scales():
    scale = settings_from([*TEXT, "controls.scale=0.5"]).controls.scale
    assert (scale.control, scale.references) == (0.5, 0.5)


# --- real runs ------------------------------------------------------------------------------------------------------


def test_two_runs_and_one_of_them_once_more(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.mp4", 9)
    assert main(["run", "-m", "input=in.mp4", "seed=1,2", *SMALL, "output.folder=s"]) == 0
    one, two = sorted(path for path in (tmp_path / "s").iterdir() if path.name != LAUNCHER)
    assert files(one) == ["config.yaml", "control.mp4", "metrics.json", "output.mp4", "run.json", "sheet.png"]
    record = json.loads((one / "run.json").read_text())
    assert set(record["weights"]) == {"base", "vae", "text_encoder", "control"}
    assert [mark["path"] for mark in record["inputs"]] == [str(tmp_path / "in.mp4")]
    assert record["capabilities"]["sink"] == "full"
    monkeypatch.chdir("/")  # a run is repeated from wherever one stands
    capsys.readouterr()
    assert main(["rerun", str(one), "--folder", str(tmp_path / "again")]) == 0
    assert "the same bits in all 1 chunks" in capsys.readouterr().out
    (one / "run.json").write_text((two / "run.json").read_text())  # the mutant: another seed's bits are expected
    assert main(["rerun", str(one), "--folder", str(tmp_path / "other")]) == 1
    assert "other bits from chunk 0 on, of 1 chunks" in capsys.readouterr().out
    (tmp_path / "in.mp4").write_bytes(b"")
    assert main(["rerun", str(two)]) == 2
    assert f"are gone or have changed: {tmp_path / 'in.mp4'}" in capsys.readouterr().err


def test_what_differs_is_said(tmp_path):
    then = Record(
        config_hash="", folder=tmp_path, versions={"torch": "1"}, git=None, inputs=(), weights={},
        machine=Machine(system="a", device="cpu", threads=1), chunks=("a", "b"),
    )  # fmt: skip
    now = then.model_copy(update={"versions": {"torch": "2"}, "chunks": ("a", "c")})
    found = compare_records(then, now, tmp_path)
    assert (found.first_other, found.differences) == (1, ("torch: 1 then, 2 now",))
    assert compare_records(then, then, tmp_path).first_other is None
    assert compare_records(then, then.model_copy(update={"chunks": ("a",)}), tmp_path).first_other == 1
