"""Demo sheets: what they are made of, that they can be made, and where their pictures stand."""

from __future__ import annotations

from pathlib import Path

import demos
import numpy as np
import pytest
from demo_sheet import GAP, LABEL, MARGIN, TILE, Row, Section, moments, sheet
from demos import DEMOS, Demo, Run, drawn, save, settings_of_run
from PIL import Image

import vace_adapt
from vace_adapt.errors import SettingsError

PRESETS = Path(vace_adapt.__file__).parent / "conf" / "experiment"
NOISE = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)


def test_every_preset_is_in_a_sheet():
    words = {word for demo in DEMOS.values() for run in demo.runs for word in run.overrides.split()}
    assert {f"experiment={path.stem}" for path in PRESETS.iterdir()} <= words
    assert [*DEMOS] == ["references", "controls", "extension", "inpainting", "composition", "scale", "long_form"]


@pytest.mark.parametrize("name", DEMOS)
def test_runs_are_valid_and_of_one_seed(name, tmp_path):
    things(tmp_path)
    for number, run in enumerate(DEMOS[name].runs):
        settings = settings_of_run(run, tmp_path, tmp_path / str(number))
        assert settings.seed == 0
        assert settings.prompt
    with pytest.raises(SettingsError):
        settings_of_run(Run(f"{DEMOS[name].runs[0].overrides} controls.scales=1"), tmp_path, tmp_path / "wrong")


def things(folder):
    for name in demos.THINGS:
        Image.fromarray(NOISE[0]).save(folder / name)


def test_what_is_there_is_small_and_asked_for():
    assert {path.stem for path in demos.DOCS.iterdir()} == set(DEMOS), "run python benchmarks/fidelity/demos.py"
    assert all(path.stat().st_size <= demos.LARGEST for path in demos.DOCS.iterdir())


def test_a_sheet_is_made_of_runs(tmp_path):
    demo = Demo(
        "two runs", (Run("task=control input=depth.mp4 frames=9", "a ball"), Run("task=text frames=9", "a ball")), 3
    )
    image = drawn(demo, tmp_path)
    rows = [Row("", NOISE)] * 2
    assert image.size == sheet("", [Section("", "", tuple(rows)), Section("", "", tuple(rows[:1]))], 3).size
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 100


def test_pictures_are_enlarged_and_in_their_places():
    section = Section("run", "a ball", (Row("given", NOISE), Row("made", NOISE[::-1])))
    made = np.asarray(sheet("title", [section], 3))
    bottom = made.shape[0] - MARGIN - GAP
    for row, frames in enumerate((NOISE[::-1], NOISE)):
        top = bottom - (row + 1) * (TILE + GAP)
        for column, frame in enumerate((0, 4, 8)):
            left = MARGIN + LABEL + column * (TILE + GAP)
            tile = made[top : top + TILE, left : left + TILE]
            assert np.array_equal(tile, frames[frame].repeat(3, axis=0).repeat(3, axis=1))


def test_prompts_stand_over_the_moments_they_begin_at():
    plain = Section("run", "", (Row("made", NOISE),))
    switched = Section("run", "", (Row("made", NOISE),), ((0, "a ball"), (5, "a ring")))
    later = Section("run", "", (Row("made", NOISE),), ((0, "a ball"), (9, "a ring")))
    first, second = (np.asarray(sheet("title", [section], 3)) for section in (switched, later))
    assert first.shape[0] > np.asarray(sheet("title", [plain], 3)).shape[0]
    columns = np.unique(np.nonzero((first != second).any(axis=(0, 2)))[0] - MARGIN - LABEL) // (TILE + GAP)
    assert {*columns.tolist()} == {2}


def test_moments_are_spread_over_the_run():
    assert moments(45, 6) == [0, 9, 18, 26, 35, 44]
    assert moments(3, 6) == [0, 1, 2]
    assert moments(1, 6) == [0]


def test_a_large_sheet_gets_a_palette(tmp_path, monkeypatch):
    image = Image.fromarray(np.concatenate(NOISE))
    save(image, tmp_path / "plain.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "plain.png")), np.asarray(image))
    monkeypatch.setattr(demos, "LARGEST", 50_000)
    save(image, tmp_path / "small.png")
    assert Image.open(tmp_path / "small.png").mode == "P"
    assert (tmp_path / "small.png").stat().st_size <= 50_000
