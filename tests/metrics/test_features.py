"""Features of pictures, on tiny random weights of the real classes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from cli.runs import SMALL
from PIL import Image
from transformers import (
    BitImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
)

from vace_adapt.cli.main import main
from vace_adapt.errors import CheckpointError
from vace_adapt.metrics.appearance import reference_similarity
from vace_adapt.metrics.features import load_features

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def save_dinov2(folder):
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**SIZES, image_size=28, patch_size=14)).save_pretrained(folder)
    size = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    BitImageProcessorPil(**size).save_pretrained(folder)
    return folder


def save_clip(folder):
    torch.manual_seed(0)
    config = CLIPVisionConfig(**SIZES, intermediate_size=16, projection_dim=8, image_size=32, patch_size=16)
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**size).save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": written}))
    return folder


def pictures(count, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, 40, 30, 3), dtype=np.uint8))


@pytest.mark.parametrize("save", [save_dinov2, save_clip])
def test_features_are_of_length_1_and_of_the_picture(tmp_path, save):
    features = load_features(str(save(tmp_path)))
    made = features(pictures(3))
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    assert np.allclose(features(pictures(3)[:1]), made[:1], atol=1e-6)
    assert abs(made[0] @ made[1]) < 1 - 1e-5
    same, other = np.stack(pictures(1) * 5), np.stack(pictures(5, seed=1))
    assert reference_similarity(features, same, pictures(1)) == pytest.approx(1, abs=1e-5)
    assert reference_similarity(features, other, pictures(1)) < 1 - 1e-5


def test_every_fourth_frame_is_compared_with_every_reference():
    def features(given):
        return np.stack([np.eye(3)[picture[0, 0, 0]] for picture in given])

    frames = np.zeros((8, 2, 2, 3), np.uint8)
    frames[4], frames[1] = 1, 2
    assert reference_similarity(features, frames, [np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)]) == 0.5


def test_what_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is neither a folder nor in the local Hugging Face cache: hf download"):
        load_features("somebody/something")
    with pytest.raises(CheckpointError, match="config.json is missing or damaged"):
        load_features(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(CheckpointError, match="is a model of type 'vit', expected 'dinov2' or 'clip'"):
        load_features(str(tmp_path))
    damaged = save_dinov2(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_features(str(damaged))


def test_compare_measures_references_with_it(tmp_path):
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    run, page = tmp_path / "run", tmp_path / "page.html"
    given = ["task=reference", f"references=[{tmp_path}/a.png]", "frames=9", *SMALL, f"output.folder={run}"]
    assert main(["run", *given]) == 0
    assert main(["compare", str(run), "--out", str(page), "--features", str(save_dinov2(tmp_path / "dino"))]) == 0
    assert "like the reference" in page.read_text()
