"""Trackers: what they are told is what the run folder holds, and they never cost a run."""

from __future__ import annotations

import importlib
import json
import warnings

import pytest
from cli.runs import SMALL, files

from vace_adapt.cli.main import main
from vace_adapt.config.read import settings_from
from vace_adapt.experiments import trackers
from vace_adapt.experiments.record import config_hash

GIVEN = ["task=text", "frames=21", "prompt=a red ball", *SMALL]


class Told:
    """A tracker that keeps what it is told."""

    def __init__(self, folder, settings):
        self.calls = []
        runs.append(self)

    def chunk(self, values, index):
        self.calls.append((index, values))

    def finish(self, values, files, *, interrupted):
        self.calls.append((values, [file.name for file in files], interrupted))

    def discard(self):
        self.calls.append("discarded")


class Failing(Told):
    def chunk(self, values, index):
        raise ConnectionError("nobody listens")


runs = []


@pytest.fixture
def told(monkeypatch):
    runs.clear()
    monkeypatch.setattr(trackers, "check_installed", lambda names: None)
    monkeypatch.setattr("vace_adapt.experiments.start.check_installed", lambda names: None)
    monkeypatch.setitem(trackers.OPENED, "tensorboard", Told)
    return runs


def test_it_is_told_every_chunk_and_the_run(tmp_path, told):
    assert main(["run", *GIVEN, f"output.folder={tmp_path}/a", "output.trackers=[tensorboard]"]) == 0
    metrics = json.loads((tmp_path / "a/metrics.json").read_text())
    [run] = told
    *chunks, (values, names, interrupted) = run.calls
    assert [index for index, _ in chunks] == [0, 1]
    assert [told["seconds"] for _, told in chunks] == [chunk["seconds"] for chunk in metrics["chunks"]]
    assert values["fps"] == metrics["fps"]
    assert (names, interrupted) == (["output.mp4", "sheet.png", "metrics.json"], False)


def test_one_that_fails_costs_a_warning(tmp_path, told, monkeypatch):
    monkeypatch.setitem(trackers.OPENED, "tensorboard", Failing)
    with pytest.warns(UserWarning, match="Failing failed and is told nothing more: nobody listens"):
        assert main(["run", *GIVEN, f"output.folder={tmp_path}/a", "output.trackers=[tensorboard]"]) == 0
    assert "output.mp4" in files(tmp_path / "a")
    assert told[0].calls == []


def test_a_failed_run_is_discarded(tmp_path, told, capsys):
    given = [*GIVEN, "switches=[{chunk: 9, prompt: x}]", f"output.folder={tmp_path}/a", "output.trackers=[tensorboard]"]
    assert main(["run", *given]) == 2
    assert told[0].calls == ["discarded"]


def test_one_that_is_not_installed_is_refused_first(tmp_path, monkeypatch, capsys):
    def nothing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", nothing)
    with pytest.raises(Exception, match=r"mlflow is not installed: pip install 'vace-adapt\[mlflow\]'"):
        trackers.check_installed(("mlflow",))


def test_being_told_changes_no_hash():
    assert config_hash(settings_from(GIVEN)) == config_hash(settings_from([*GIVEN, "output.trackers=[mlflow]"]))


def test_tensorboard_reads_it(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(["run", *GIVEN, f"output.folder={tmp_path}/a", "output.trackers=[tensorboard]"]) == 0
    events = EventAccumulator(str(tmp_path / "a" / trackers.EVENTS)).Reload()
    metrics = json.loads((tmp_path / "a/metrics.json").read_text())
    seconds = [event.value for event in events.Scalars("chunk/seconds")]
    assert seconds == pytest.approx([chunk["seconds"] for chunk in metrics["chunks"]])
    assert "config/prompt/text_summary" in events.Tags()["tensors"]


def test_mlflow_reads_it(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["run", *GIVEN, f"output.folder={tmp_path}/a", "output.trackers=[mlflow]"]) == 0
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs.db")
    [run] = client.search_runs([client.get_experiment_by_name(trackers.EXPERIMENT).experiment_id])
    assert (run.info.run_name, run.info.status) == ("a", "FINISHED")
    assert run.data.params["prompt"] == "a red ball"
    assert len(client.get_metric_history(run.info.run_id, "chunk.seconds")) == 2
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"output.mp4", "sheet.png", "metrics.json"}
