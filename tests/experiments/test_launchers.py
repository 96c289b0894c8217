"""A sweep through each launcher that is installed: the runs are made in other processes, and found again."""

from __future__ import annotations

import importlib.util

import pytest
from cli.runs import SMALL

from vace_adapt.cli.main import main
from vace_adapt.experiments.record import read_record
from vace_adapt.experiments.sweep import LAUNCHER

LAUNCHERS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=20", "hydra.launcher.tasks_per_node=1"],
    "ray": ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"],
}


@pytest.mark.parametrize("extra", LAUNCHERS)
def test_two_runs_in_other_processes(tmp_path, monkeypatch, capfd, extra):
    if importlib.util.find_spec(f"hydra_plugins.hydra_{extra}_launcher") is None:
        pytest.skip(f"pip install 'vace-adapt[{extra}]' is not done")
    monkeypatch.chdir(tmp_path)
    given = ["run", "-m", "task=text", "frames=9", "seed=1,2", *SMALL, *LAUNCHERS[extra], "output.folder=s"]
    assert main(given) == 0
    runs = sorted(path for path in (tmp_path / "s").iterdir() if path.name != LAUNCHER)
    assert len({read_record(run).chunks for run in runs}) == 2
    assert "2 runs: 2 made" in capfd.readouterr().out
    assert main(given) == 0
    assert "2 runs: 2 finished before" in capfd.readouterr().out
