"""Composition and validation: every shipped file composes, and every mistake is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vace_adapt.config.compose import CONF, compose_config
from vace_adapt.config.read import settings_from
from vace_adapt.config.settings import ReferenceSettings, RunSettings, validate
from vace_adapt.errors import PipelineNotFound, SettingsError
from vace_adapt.loading import discover
from vace_adapt_longlive.settings import LongLiveSettings

TASKS = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))


@pytest.fixture
def inputs(tmp_path):
    paths = {name: tmp_path / f"{name}.x" for name in ("input", "mask", "reference")}
    for path in paths.values():
        path.write_text("x")
    return paths


def reference(path: Path) -> ReferenceSettings:
    return ReferenceSettings(image=path)


def text(*overrides: str, **options) -> RunSettings:
    return settings_from(["task=text", "frames=9", *overrides])


@pytest.mark.parametrize("pipeline", sorted(discover()))
@pytest.mark.parametrize("task", TASKS)
def test_every_shipped_configuration_composes_and_validates(pipeline, task, inputs):
    given = [f"input={inputs['input']}", f"references=[{inputs['reference']}]"]
    given += [f"mask={inputs['mask']}"] if task in ("inpaint", "swap_anything") else []
    given += [f"{end}={inputs['reference']}" for end in ("first", "last")]
    given += [f"keyframes=[{{path: {inputs['reference']}, frame: 3}}]"]
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
    [
        *("a dog, running: fast (really)", 'it\'s "quoted"', "a=b", "100% [sure] {x}", "$x \\ y", "${x}", "end\\", "\\'"),
        *('"hello" he said', "'tis the season", "'a' and 'b'", "'", '"', "'\"", "'a\\'", "???", "", "[x", "{x}", "a\nb", "nulls"),
    ],
)  # fmt: skip
def test_prompts_are_taken_as_they_stand(prompt):
    assert text(f"prompt={prompt}").prompt == prompt


@pytest.mark.parametrize(
    ("given", "prompt"),
    [("'a, b'", "a, b"), ('"a"', "a"), ("''", ""), (r"'it\'s'", "it's"), (r"'a\\'", "a\\"), ("'null'", "null"), ("'${x}'", "${x}")],
)  # fmt: skip
def test_quotes_around_a_prompt_are_no_part_of_it(given, prompt):
    assert text(f"prompt={given}").prompt == prompt


@pytest.mark.parametrize("name", ["a.png", "a=b.png", "a, b.png", "(1).png", "it's.png", "${x}.png", "a[1].png"])
def test_one_reference_needs_no_list(tmp_path, name):
    (tmp_path / name).write_text("x")
    assert text(f"references={tmp_path / name}").references == (reference(tmp_path / name),)
    assert text("references=[]", f"references={tmp_path / name}").references == (reference(tmp_path / name),)
    assert text(f"references={tmp_path / name}", "references=[]").references == ()


def test_several_references_are_a_list(tmp_path):
    paths = tmp_path / "a.png", tmp_path / "b.png"
    for path in paths:
        path.write_text("x")
    assert text(f"references=[{paths[0]},{paths[1]}]").references == tuple(map(reference, paths))
    with pytest.raises(SettingsError, match=r"no file '.*a.png,.*b.png'; several are given as \[a,b\]"):
        text(f"references={paths[0]},{paths[1]}")


@pytest.mark.parametrize("key", ["input", "mask", "references"])
@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(36, "File name too long")])
def test_a_file_that_cannot_be_looked_at(monkeypatch, key, error):
    def refused(path):
        raise error

    composed = compose_config(["task=text", "frames=9"])
    monkeypatch.setattr(Path, "is_file", refused)
    with pytest.raises(SettingsError, match=rf"{key}(\.0\.image)?: 'secret/a.png' cannot be read: {error.strerror}"):
        validate({**composed, key: "secret/a.png"}, LongLiveSettings)


def test_settings_are_frozen_and_can_be_written_and_read_again():
    settings = text()
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 3
    assert (
        validate(yaml.safe_load(yaml.safe_dump(settings.model_dump(mode="json"))), type(settings.pipeline)) == settings
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["sed=3"], "sed: unknown key; did you mean 'seed'?"),
        (["controls.scal.control=1"], "controls.scal: unknown key; did you mean 'controls.scale'?"),
        (["+controls.reference_fom=joint"], "controls.reference_fom: unknown key; did you mean 'reference_form'?"),
        (["pipeline.windw=9"], "pipeline.windw: unknown key; did you mean 'pipeline.window'?"),
        (["pipeline=memflow", "pipeline.spars=true"], "pipeline.spars: unknown key; did you mean 'pipeline.sparse'?"),
        (["pipeline=memflow", "pipeline.rope=relative"], "pipeline.rope: unknown key"),
        (["task=dept"], "swap_anything, text); did you mean 'depth'?"),
        (["references=[a,"], "cannot read 'references=[a,': put quotes around the value"),
        (["references={}"], "references: must be a list, not {}: write [{}]"),
        (["references=null"], "references: must be a list, not None"),
        (["references=[null]"], "references.0: must be a section with the keys image, scale, role, mask, box, background, not None"),
        (["pipeline=null"], "pipeline: a name is expected, not null"),
        (["task=null"], "task: a name is expected, not null"),
        (["task={a: 1}"], "task: a name is expected, not {a: 1}"),
        (["job"], "cannot read 'job': key=value is expected"),
        (["=x"], "cannot read '=x': key=value is expected"),
        (["device=???"], "device: has no value (???)"),
        (["seed=1,2"], "cannot use 'seed=1,2': one value is expected; a list stands in [], a text in quotes; -m sweeps"),
        (["seed=range(3)"], "cannot use 'seed=range(3)': one value is expected; a list stands in [], a text in quotes; -m sweeps"),
        (["output=x", "output.folder=run"], "output: must be a section with the keys folder, trackers, quality, not 'x'"),
        (["output=x", "output.quality=3"], "output.quality: output is set to something else: leave output=... out"),
        (["output=[1]"], "output: must be key: value pairs in {}, not the list [1]"),
        (["switches={chunk: 1, prompt: a}"], "switches: must be a list, not {chunk: 1, prompt: a}: write [{chunk: 1, prompt: a}]"),
        (["switches=[{chnk: 1, prompt: x}]"], "switches.0.chnk: unknown key; did you mean 'chunk'?"),
        (["switches=[1]"], "switches.0: must be a section with the keys chunk, prompt, references, scale, controls, not 1"),
        (["switches=[{chunk: 2, prompt: a}, {chunk: 1, prompt: b}, {chunk: 2, prompt: c}]"], "switches: chunk 2 has 2 switches, expected one"),
        (["fps=1e-7"], "fps: must be greater than or equal to 0.1, not 1e-07"),
        (["pipeline.timestep_shift=inf"], "pipeline.timestep_shift: must be a finite number, not inf"),
        (["pipeline.timestep_shift=101"], "pipeline.timestep_shift: must be less than or equal to 100, not 101"),
        (["pipeline.lora.alpha=nan"], "pipeline.lora.alpha: must be a finite number, not nan"),
        (["pipeline.denoising_steps=[1000,1000]"], "denoising_steps must decrease within (0, 1000], not [1000.0, 1000.0]"),
        *(
            ([f"pipeline.backbone.{name}={value}"], f"pipeline.backbone.{name}: must be greater than or equal to 1, not {value}")
            for name in ("dim", "ffn_dim", "heads", "layers", "text_dim", "text_len", "freq_dim", "latent_channels")
            for value in (0, -12)
        ),
        (["pipeline.backbone.patch=[1,0,2]"], "pipeline.backbone.patch.1: must be greater than or equal to 1, not 0"),
        (["pipeline.backbone.stride=[0,8,8]"], "pipeline.backbone.stride.0: must be greater than or equal to 1, not 0"),
        (["pipeline.backbone.eps=0"], "pipeline.backbone.eps: must be greater than 0, not 0"),
        (["controls.scale.layers=[1,101]"], "controls.scale.layers: a scale must be within 0..100, not 101.0"),
        (["controls.hint_reuse=0"], "controls.hint_reuse: must be greater than or equal to 1, not 0"),
        (["controls.context_frames=1", "controls.reference_form=references_only"], "controls: context_frames 1 has no rows in reference_form=references_only: use cached or joint"),
        (["switches=[{chunk: 2, controls: {context_frames: 1}}]"], "switches, chunk 2: controls.context_frames cannot change inside a stream"),
        (["seed=many"], "seed: must be a valid integer, unable to parse string as an integer, not 'many'"),
        (["controls.scale.control=-1"], "controls.scale.control: a scale must be within 0..100, not -1.0"),
        (["height=64"], "height and width go together: give both or neither"),
        (["mask=pyproject.toml"], "mask needs input=...: without a video there is nothing to keep"),
        (["input=nowhere.mp4"], "input: no file 'nowhere.mp4'"),
        (["references=[nowhere.png]"], "references.0.image: no file 'nowhere.png'"),
        (["references=[pyproject.toml,pyproject.toml]", "controls.reference_slots=1"], "2 references are given, the stream has slots for 1 (controls.reference_slots)"),
        (["switches=[{chunk: 3, references: [pyproject.toml,pyproject.toml]}]", "controls.reference_slots=1"], "switches, chunk 3: 2 references are given, the stream has slots for 1"),
        (["switches=[{chunk: 3, controls: {reference_slots: 1}}]"], "switches, chunk 3: controls.reference_slots cannot change inside a stream"),
        (["task=inpaint"], "task=inpaint needs input=... (where the mask is white the input is made anew, elsewhere kept)"),
        (["frames=null"], "frames=... is not given, and there is no input video to follow"),
        (["frames=0"], "frames: must be greater than or equal to 1, not 0"),
        (["device=cpu", "dtype=float8"], "dtype: must be 'auto', 'float32', 'bfloat16' or 'float16', not 'float8'"),
        (["pipeline.window=4"], "pipeline: window 4 minus sink 3 leaves 1 latent frames, a chunk has 3"),
    ],
)  # fmt: skip
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
        PipelineNotFound, match=r"no pipeline 'longlve' \(installed: .*longlive.*\); did you mean 'longlive'"
    ):
        text("pipeline=longlve")
