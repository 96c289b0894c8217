"""Composition and validation: every shipped file composes, and every mistake is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vace_adapt.cli.run import settings_from
from vace_adapt.config.compose import CONF, compose_config
from vace_adapt.config.settings import RunSettings
from vace_adapt.errors import PipelineNotFound, SettingsError
from vace_adapt.loading import discover

TASKS = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))


@pytest.fixture
def inputs(tmp_path):
    paths = {name: tmp_path / f"{name}.x" for name in ("input", "mask", "reference")}
    for path in paths.values():
        path.write_text("x")
    return paths


def text(*overrides: str, **options) -> RunSettings:
    return settings_from(["task=text", "frames=9", *overrides])


@pytest.mark.parametrize("pipeline", sorted(discover()))
@pytest.mark.parametrize("task", TASKS)
def test_every_shipped_configuration_composes_and_validates(pipeline, task, inputs):
    given = [f"input={inputs['input']}", f"mask={inputs['mask']}", f"references=[{inputs['reference']}]"]
    settings = settings_from([f"pipeline={pipeline}", f"task={task}", *given])
    assert (settings.pipeline.name, settings.task.name) == (pipeline, task)


def test_no_target_in_any_shipped_file():
    import vace_adapt_longlive

    folders = (CONF, Path(vace_adapt_longlive.__file__).parent / "conf")
    files = [path for folder in folders for path in folder.rglob("*.yaml")]
    assert len(files) >= 7
    assert not [path for path in files if "_target_" in path.read_text()]


def test_defaults_are_the_python_defaults():
    from vace_adapt import ControlSettings, WeightsSettings
    from vace_adapt_longlive.settings import LongLiveSettings

    settings = text()
    assert settings.controls == ControlSettings()
    assert settings.weights == WeightsSettings()
    assert settings.pipeline == LongLiveSettings(name="longlive")


def test_values_reach_the_settings():
    settings = text("controls.scale.control=0.5", "pipeline.window=9", "switches=[{chunk: 3, prompt: a dog}]", "seed=7")
    assert settings.controls.scale.control == 0.5
    assert settings.pipeline.window == 9
    assert [(switch.chunk, switch.prompt) for switch in settings.switches] == [(3, "a dog")]
    assert settings.seed == 7


@pytest.mark.parametrize(
    "prompt",
    ["a dog, running: fast (really)", 'it\'s "quoted"', "a=b", "100% [sure] {x}", "$x \\ y", "${x}", "end\\", "\\'"],
)
def test_prompts_are_taken_as_they_stand(prompt):
    assert text(f"prompt={prompt}").prompt == prompt


def test_settings_are_frozen_and_round_trip():
    settings = text()
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 3
    composed = compose_config(["task=text", "frames=9"])
    assert composed["pipeline"]["name"] == "longlive"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["sed=3"], "sed: unknown key; did you mean 'seed'?"),
        (["controls.scal.control=1"], "controls.scal: unknown key; did you mean 'controls.scale'?"),
        (["+controls.reference_fom=joint"], "controls.reference_fom: unknown key; did you mean 'reference_form'?"),
        (["pipeline.windw=9"], "pipeline.windw: unknown key; did you mean 'pipeline.window'?"),
        (["task=dept"], "task=dept: unknown (known: control, depth, inpaint, reference, text); did you mean 'depth'?"),
        (["references=[a,"], "cannot read 'references=[a,': put quotes around the value"),
        (["seed=many"], "seed: must be a valid integer, unable to parse string as an integer, not 'many'"),
        (["controls.scale.control=-1"], "controls.scale.control: a scale must be a finite number >= 0, not -1.0"),
        (["height=64"], "height and width go together: give both or neither"),
        (["mask=pyproject.toml"], "mask needs input=...: without a video there is nothing to keep"),
        (["input=nowhere.mp4"], "input: no file 'nowhere.mp4'"),
        (["references=[nowhere.png]"], "references: no file 'nowhere.png'"),
        (["task=inpaint"], "task=inpaint needs input=... (the input is a video; where the mask is white"),
        (["frames=null"], "frames=... is not given, and there is no input video to follow"),
        (["frames=0"], "frames: must be greater than or equal to 1, not 0"),
        (["device=cpu", "dtype=float8"], "dtype: must be 'auto', 'float32', 'bfloat16' or 'float16', not 'float8'"),
        (["pipeline.window=4"], "pipeline: window 4 minus sink 3 leaves 1 latent frames, a chunk has 3"),
    ],
)
def test_every_mistake_is_one_line(overrides, expected):
    with pytest.raises(SettingsError) as caught:
        text(*overrides)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_mistakes_at_once():
    with pytest.raises(SettingsError) as caught:
        text("seed=x", "pipeline.window=1", "controls.reference_form=magic", "output.quality=99")
    for part in ("seed: ", "pipeline: window 1", "controls.reference_form: must be 'joint'", "output.quality: "):
        assert part in str(caught.value)


def test_unknown_pipeline():
    with pytest.raises(
        PipelineNotFound, match=r"no pipeline 'longlve' \(installed: longlive\); did you mean 'longlive'"
    ):
        text("pipeline=longlve")
