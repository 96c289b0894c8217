"""Every experiment is a whole run on files that ship with the package."""

from __future__ import annotations

import pytest

from vace_adapt.cli.main import main
from vace_adapt.config.compose import CONF
from vace_adapt.config.read import settings_from
from vace_adapt.experiments.record import input_marks

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def test_there_is_one_for_every_demo():
    assert EXPERIMENTS == [
        "composition", "depth", "inpainting", "keyframe_interpolation", "long_form", "pose", "scale", "style_references",
    ]  # fmt: skip


@pytest.mark.parametrize("pipeline", ["longlive", "memflow"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_is_complete(name, pipeline):
    settings = settings_from([f"experiment={name}", f"pipeline={pipeline}"])
    assert settings.pipeline.name == pipeline
    assert settings.prompt
    assert name == "long_form" or input_marks(settings)


def test_what_is_named_beside_it_counts():
    settings = settings_from(["experiment=composition", "prompt=x", "controls.scale=0.5", "references=[]"])
    assert (settings.prompt, settings.controls.scale.control, settings.references) == ("x", 0.5, ())


def test_an_unknown_one_is_said(capsys):
    assert main(["run", "experiment=dept"]) == 2
    assert "experiment=dept: unknown" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name != "long_form"])
def test_explain_says_what_it_is(name, capsys):
    assert main(["explain", f"experiment={name}"]) == 0
    assert "task: " in capsys.readouterr().out
