"""Batch VACE as a run: what diffusers' class makes, options that only streams have, the same run folder."""

from __future__ import annotations

import json

import pytest
import torch
from cli.runs import SMALL, files, write
from diffusers import WanVACETransformer3DModel

from vace_adapt.batch.declaration import INFO, BatchVaceSettings
from vace_adapt.batch.model import BatchVace, Shown, noise_levels
from vace_adapt.cli.main import main
from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.contract import CAPABILITIES, Support, WeightsSettings
from vace_adapt.embedded.family import FAMILY_FOLDER
from vace_adapt.streaming.noise import draw
from vace_adapt.time_map import TimeMap

STEPS = ["pipeline=batch_vace", "pipeline.steps=2", *SMALL]


@pytest.fixture(scope="module")
def model():
    settings = BatchVaceSettings(name="batch_vace", steps=1, guidance=1)
    return BatchVace.load(WeightsSettings(), settings, torch.device("cpu"), torch.float32)


def shown(references: int = 0, scale: float = 1.0) -> Shown:
    noise = torch.Generator().manual_seed(0)
    pictures = torch.rand((1, 3, references, 32, 48), generator=noise) * 2 - 1 if references else None
    return Shown(torch.rand((1, 3, 9, 32, 48), generator=noise) * 2 - 1, None, pictures, [scale] * 3)


def encoder(model: BatchVace) -> ControlEncoder:
    return ControlEncoder(model.codec, TimeMap(3, 3), (1, 32, 48), "nearest")


@pytest.mark.parametrize("references", [0, 2])
@torch.no_grad()
def test_one_step_is_one_pass_of_diffusers_class(model, references):
    given = shown(references)
    latents, frames = model("a red ball", given, encoder(model), seed=3)
    theirs = WanVACETransformer3DModel.from_pretrained(FAMILY_FOLDER / "transformer").eval()
    control = encoder(model).control(0, given.frames, None)
    noise = draw([3], "chunk", 0, (16, 3, 4, 6))
    if references:
        control = torch.cat([encoder(model).references(given.references)[0], control], dim=2)
        first = torch.stack([draw([3], "reference", i, (16, 4, 6)) for i in range(references)], dim=2)
        noise = torch.cat([first, noise], dim=2)
    text = model.text_encoder(["a red ball"])
    flow = theirs(noise, torch.tensor([1000.0]), text, None, control, torch.ones(3)).sample
    assert torch.equal(latents, (noise - flow)[:, :, references:])
    assert frames.shape == (1, 9, 32, 48, 3)


def test_it_listens(model):
    made = {
        name: model("a red ball", given, encoder(model), seed=3)[0]
        for name, given in (("none", shown(scale=0)), ("control", shown()), ("reference", shown(1)))
    }
    assert not torch.equal(made["none"], made["control"])
    assert not torch.equal(made["control"], made["reference"])


def test_noise_levels_by_hand():
    assert noise_levels(2, 1) == [1, 0.5, 0]
    assert noise_levels(2, 3) == [1, pytest.approx(0.75), 0]


def test_it_says_what_it_is_not():
    assert set(INFO.capabilities) == set(CAPABILITIES)
    for capability in INFO.capabilities.values():
        assert capability.support is Support.UNSUPPORTED
        assert capability.reason


def test_a_run_has_the_same_folder_and_one_chunk(tmp_path, capsys):
    video, folder = write(tmp_path / "in.mp4", 11), tmp_path / "run"
    assert main(["run", *STEPS, f"input={video}", f"output.folder={folder}"]) == 0
    assert "the whole clip at once, which is no stream" in capsys.readouterr().out
    assert files(folder) == ["config.yaml", "control.mp4", "metrics.json", "output.mp4", "run.json", "sheet.png"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [(chunk["pixels"], chunk["latents"]) for chunk in metrics["chunks"]] == [(11, 4)]
    record = json.loads((folder / "run.json").read_text())
    assert set(record["weights"]) == {"vae", "text_encoder", "control"}
    assert record["capabilities"]["window"].startswith("unsupported: there is no cache")
    assert main(["rerun", str(folder), "--folder", str(tmp_path / "again")]) == 0


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("controls.preserve=latent", "controls.preserve is unsupported: what the mask keeps"),
        ("controls.hint_reuse=2", "controls.hint_reuse is unsupported: hints are made at every step"),
        ("controls.reference_slots=1", "controls.reference_slots is unsupported"),
        ("switches=[{chunk: 1, prompt: a}]", "switches is unsupported: one prompt"),
        ("controls.scale.control_schedule.end_step=1", "controls.scale is unsupported"),
        ("weights.base=x.pt", "takes no weights.base"),
    ],
)
def test_what_only_streams_have_is_refused(tmp_path, capsys, option, text):
    assert main(["run", *STEPS, "task=text", "frames=9", option, f"output.folder={tmp_path / 'run'}"]) == 2
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_there_is_no_contract_to_check_it_on(capsys):
    assert main(["check", "batch_vace"]) == 2
    assert "batch_vace makes whole clips, it is no stream" in capsys.readouterr().err
    assert main(["show", "batch_vace"]) == 0
    assert "not a streaming pipeline" in capsys.readouterr().out
