"""The Wan VAE and UMT5 from their original files and from diffusers or transformers folders."""

from __future__ import annotations

import pytest
import torch
from checkpoints import original_vae
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file

from vace_adapt.embedded.tiny import seeded, tiny_text_encoder, tiny_vae
from vace_adapt.errors import CheckpointError
from vace_adapt.weights.text import load_text_encoder
from vace_adapt.weights.vae import load_vae

CPU = torch.device("cpu")
PROMPTS = ["a red ball", "ein   Hund &amp; eine Katze", ""]


def test_vae_from_a_diffusers_folder(tmp_path):
    vae = tiny_vae(0)
    vae.save_pretrained(tmp_path / "vae")
    for source in (tmp_path, tmp_path / "vae"):
        found = load_vae(str(source), CPU, torch.float32)
        assert all(torch.equal(tensor, vae.state_dict()[name]) for name, tensor in found.state_dict().items())


def test_vae_from_the_original_file(tmp_path):
    """Sizes are read off the tensors."""
    vae = seeded(lambda: AutoencoderKLWan(base_dim=4), 0, "vae")
    state = original_vae(vae.state_dict())
    assert len(state) == len(vae.state_dict())
    torch.save(state, tmp_path / "Wan2.1_VAE.pth")
    found = load_vae(str(tmp_path / "Wan2.1_VAE.pth"), CPU, torch.float32)
    pixels = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    assert torch.equal(found.encode(pixels).latent_dist.mean, vae.encode(pixels).latent_dist.mean)


def test_something_else_is_no_vae(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="is not a Wan VAE: it has neither encoder.conv1 nor encoder.conv_in"):
        load_vae(str(tmp_path / "m.safetensors"), CPU, torch.float32)


def test_text_encoder_from_a_transformers_folder(tmp_path):
    encoder = tiny_text_encoder(0)
    encoder.model.save_pretrained(tmp_path / "text_encoder")
    encoder.tokenizer.save_pretrained(tmp_path / "tokenizer")
    found = load_text_encoder(str(tmp_path), None, 32, CPU, torch.float32)
    assert torch.equal(found(PROMPTS), encoder(PROMPTS))
    apart = load_text_encoder(str(tmp_path / "text_encoder"), str(tmp_path / "tokenizer"), 32, CPU, torch.float32)
    assert torch.equal(apart(PROMPTS), encoder(PROMPTS))


def original_text(state):
    """UMT5 under Wan's names (Wan-Video/Wan2.1 wan/modules/t5.py)."""
    renames = (
        ("shared.", "token_embedding."),
        ("encoder.final_layer_norm.", "norm."),
        ("encoder.block.", "blocks."),
        (".layer.0.SelfAttention.relative_attention_bias.", ".pos_embedding.embedding."),
        (".layer.0.SelfAttention.", ".attn."),
        (".layer.0.layer_norm.", ".norm1."),
        (".layer.1.layer_norm.", ".norm2."),
        (".layer.1.DenseReluDense.wi_0.", ".ffn.gate.0."),
        (".layer.1.DenseReluDense.wi_1.", ".ffn.fc1."),
        (".layer.1.DenseReluDense.wo.", ".ffn.fc2."),
    )
    found = {}
    for name, tensor in state.items():
        if name == "encoder.embed_tokens.weight":
            continue
        for new, old in renames:
            name = name.replace(new, old)
        found[name] = tensor.clone()
    return found


def test_text_encoder_from_the_original_file(tmp_path):
    encoder = tiny_text_encoder(0)
    torch.save(original_text(encoder.model.state_dict()), tmp_path / "models_t5_umt5-xxl-enc-bf16.pth")
    encoder.tokenizer.save_pretrained(tmp_path / "google" / "umt5-xxl")
    found = load_text_encoder(str(tmp_path / "models_t5_umt5-xxl-enc-bf16.pth"), None, 32, CPU, torch.float32)
    assert torch.equal(found(PROMPTS), encoder(PROMPTS))


def test_rows_past_the_prompt_are_zero_and_white_space_does_not_count():
    encoder = tiny_text_encoder(0)
    embeds = encoder(["ab", "ab   ", "a\tb"])
    assert embeds.shape == (3, 32, 32)
    assert embeds[0, :3].abs().sum(-1).gt(0).all()
    assert not embeds[0, 3:].any()
    assert torch.equal(embeds[0], embeds[1])
    assert not torch.equal(embeds[0], embeds[2])
    assert torch.equal(encoder(["a &amp; b"]), encoder(["a & b"]))


def test_a_missing_tokenizer_and_something_else(tmp_path):
    tiny_text_encoder(0).model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        load_text_encoder(str(tmp_path), None, 32, CPU, torch.float32)
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="is not a UMT5 encoder: it has no shared.weight"):
        load_text_encoder(str(tmp_path), None, 32, CPU, torch.float32)
