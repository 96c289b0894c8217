"""What is exported is what was trained, in half precision, for the product's own loaders and for diffusers."""

from __future__ import annotations

import json

import pytest
import torch
from base import new_base, new_context
from diffusers import WanVACETransformer3DModel
from export import between, export_student, export_text_encoder, export_transformer, export_vae, write_card
from safetensors.torch import load_file
from text import Prompts
from vae import new_vae

from vace_adapt.conditioning.vae import VaeCodec
from vace_adapt.embedded.family import FAMILY, FAMILY_CONTROL_LAYERS
from vace_adapt.embedded.tiny import seeded
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.weights.base import load_causal_wan
from vace_adapt.weights.control import load_context_path
from vace_adapt.weights.text import load_text_encoder
from vace_adapt.weights.vae import load_vae

CPU = torch.device("cpu")
CAPTIONS = [("a red ball on navy tiles", "a ball on navy tiles")]


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Random weights, exported."""
    folder = tmp_path_factory.mktemp("family")
    vae = new_vae()
    statistics = torch.linspace(-1, 1, 16), torch.linspace(0.5, 2, 16)
    base = seeded(lambda: CausalWan.of(FAMILY), 0, "base")
    path = seeded(lambda: new_context(base), 0, "context")
    encoder = new_base(Prompts(CAPTIONS).words)[1].eval()
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    export_vae(vae, statistics, folder)
    export_text_encoder(encoder, folder)
    export_transformer(base, path, folder)
    export_student(base, base, 1.0, folder / "plugin" / "student.safetensors")
    return folder, before, statistics, encoder, base, path


def halved(state):
    return {name: tensor.half().float() for name, tensor in state.items()}


def same(loaded, state):
    expected = halved(state)
    return set(loaded) == set(expected) and all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_between_two_models_is_nearer_to_the_one_whose_share_is_larger():
    begin, end = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    first, last = begin.state_dict(), end.state_dict()
    for share in (0.0, 0.25, 1.0):
        for name, weights in between(begin, end, share).items():
            torch.testing.assert_close(weights, (1 - share) * first[name] + share * last[name])


def test_the_autoencoder_and_its_statistics(family):
    folder, state, (mean, deviation), *_ = family
    vae = load_vae(str(folder), CPU, torch.float32)
    assert same(vae.state_dict(), state)
    assert vae.config.latents_mean == pytest.approx(mean.tolist())
    assert vae.config.latents_std == pytest.approx(deviation.tolist())
    VaeCodec(vae)


def test_the_text_encoder_and_its_tokenizer(family):
    folder, _, _, encoder, *_ = family
    loaded = load_text_encoder(str(folder), None, FAMILY.text_len, FAMILY.text_dim, CPU, torch.float32)
    prompts = Prompts(CAPTIONS)
    for kind, caption in enumerate((*CAPTIONS[0], "")):
        expected = prompts.embed(encoder, torch.tensor([0]), torch.tensor([kind]))
        assert torch.allclose(loaded([caption]), expected, atol=2e-2)
    assert not torch.allclose(loaded(["a blue ring"]), expected, atol=2e-2)


def test_the_context_blocks_and_the_student(family):
    folder, _, _, _, base, path = family
    context = load_context_path(str(folder), FAMILY, CPU, torch.float32)
    assert context.layers == FAMILY_CONTROL_LAYERS
    assert same(context.state_dict(), path.state_dict())
    student = load_causal_wan(str(folder / "plugin" / "student.safetensors"), FAMILY, CPU, torch.float32)
    assert same(student.state_dict(), base.state_dict())


def test_the_transformer_is_diffusers_own(family):
    folder, _, _, _, base, path = family
    model = WanVACETransformer3DModel.from_pretrained(folder / "transformer").float()
    assert same(model.state_dict(), {**base.state_dict(), **path.state_dict()})


def test_equal_weights_are_equal_files(family, tmp_path):
    folder, _, _, _, base, _ = family
    export_student(base, base, 1.0, tmp_path / "student.safetensors")
    assert (tmp_path / "student.safetensors").read_bytes() == (folder / "plugin" / "student.safetensors").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_student_lies_between_base_and_trained_weights(share, tmp_path):
    base, trained = (seeded(lambda: CausalWan.of(FAMILY), seed, "base") for seed in (1, 2))
    export_student(base, trained, share, tmp_path / "student.safetensors")
    written, ends = load_file(tmp_path / "student.safetensors"), (base.state_dict(), trained.state_dict())
    assert list(written) == sorted(ends[0])
    for name, tensor in written.items():
        between = (1 - share) * ends[0][name] + share * ends[1][name]
        assert torch.allclose(tensor.float(), between, atol=2e-3, rtol=1e-3)


def test_the_card_has_what_the_stages_recorded(tmp_path):
    (tmp_path / "vae").mkdir()
    record = {"step": 120, "steps": 120, "seconds": 600.0, "losses": {"picture": [9.0] * 20 + [0.25] * 100}}
    (tmp_path / "vae" / "losses.json").write_text(json.dumps(record))
    file = tmp_path / "weights.safetensors"
    file.write_bytes(bytes(1_500_000))
    write_card(tmp_path, tmp_path / "README.md", {"weights": file}, {"vae": "the autoencoder"}, "9 clips")
    card = (tmp_path / "README.md").read_text()
    assert "| vae | the autoencoder | 120 | 10 | picture 0.2500 |" in card
    assert "| weights | 1.50 | `" in card
    assert "Data: 9 clips." in card
