"""What is measured of a run depends on what steered it."""

from __future__ import annotations

import shutil

import numpy as np
from annotators.tiny_models import save_depth_anything
from cli.runs import SMALL, write

from vace_adapt.annotators.depth import DepthSettings, _make
from vace_adapt.cli.main import main
from vace_adapt.contract import Canvas
from vace_adapt.experiments.finished import read_run
from vace_adapt.experiments.measure import measure


def test_depth_is_extracted_again_by_the_same_model(tmp_path):
    weights = save_depth_anything(tmp_path / "depth")
    video = write(tmp_path / "video.mp4", 9)
    given = [f"input={video}", f"controls.annotators.depth.weights={weights}", f"output.folder={tmp_path}/run"]
    assert main(["run", "task=depth", *SMALL, *given]) == 0
    run = read_run(tmp_path / "run")
    wanted = run.control()[..., 0].astype(float)
    again = _make(DepthSettings(weights=str(weights)), Canvas(32, 48))(run.output(), 0)[..., 0].astype(float)
    made = measure(run)
    assert abs(made.values["depth_correlation"] - np.corrcoef(again.ravel(), wanted.ravel())[0, 1]) < 1e-3
    assert "edge_f1" not in made.values
    shutil.rmtree(weights)
    without = measure(run)
    assert "depth_correlation" not in without.values
    assert any("annotator 'depth'" in note for note in without.notes)
