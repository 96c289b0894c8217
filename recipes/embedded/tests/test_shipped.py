"""What the packages have becomes the states that other stages begin from, and no more than that."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import export
import pytest
import torch
import train
from safetensors.torch import load_file
from shipped import MADE, begin_at
from train import STEPS, Recipe
from training import save_parts

from vace_adapt.embedded.family import FAMILY_FOLDER


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    recipe = Recipe(tmp_path_factory.mktemp("recipe"), "cpu", STEPS, clips=1, workers=1)
    recipe.run("shipped")
    return recipe


def test_states_export_to_the_very_files_they_were_made_of(recipe, tmp_path):
    base, encoder = recipe._base()
    export.export_vae(train._vae(recipe.folder), train._statistics(recipe.folder), tmp_path)
    export.export_text_encoder(encoder, tmp_path)
    export.export_transformer(base, recipe._context(base), tmp_path)
    files = sorted(path.relative_to(FAMILY_FOLDER) for path in FAMILY_FOLDER.rglob("*.safetensors"))
    assert len(files) == 3
    for file in files:
        written, shipped = (hashlib.sha256((root / file).read_bytes()).digest() for root in (tmp_path, FAMILY_FOLDER))
        assert written == shipped, file


def test_a_folder_with_states_is_refused(recipe):
    before = {path: path.read_bytes() for path in recipe.folder.rglob("*.pt")}
    with pytest.raises(SystemExit, match="holds vae, base, settled already"):
        begin_at(FAMILY_FOLDER, recipe.folder)
    assert {path: path.read_bytes() for path in recipe.folder.rglob("*.pt")} == before


def test_stages_that_ship_cannot_go_on(recipe):
    with pytest.raises(SystemExit, match=r"vae/state.pt was made of what ships, and cannot go on"):
        recipe.run("vae")
    assert set(MADE) <= {path.parent.name for path in recipe.folder.glob("*/state.pt")}


def test_a_student_is_written_alone(recipe, tmp_path, monkeypatch):
    base, _ = recipe._base()
    save_parts(recipe.folder / "distil_longlive", {"student": base.state_dict()})
    file = tmp_path / "student.safetensors"
    monkeypatch.setitem(train.STUDENTS, "longlive", replace(train.STUDENTS["longlive"], file=file))
    recipe.run("student_longlive")
    assert list(tmp_path.iterdir()) == [file]
    written = load_file(file)
    assert written.keys() == base.state_dict().keys()
    assert all(torch.equal(written[name], tensor.half()) for name, tensor in base.state_dict().items())
