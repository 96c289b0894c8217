"""The Wan VAE and UMT5 from their original files and from diffusers or transformers folders."""

from __future__ import annotations

import json

import pytest
import torch
from checkpoints import original_vae, save_text_encoder
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel

from vace_adapt.conditioning.vae import VaeCodec
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


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"encoder.conv1.weight": [4, 3, 3, 3, 3]}, "has no tensor 'conv2.weight'"),
        ({"encoder.conv1.weight": [], "conv2.weight": [16, 16, 1, 1, 1]}, r"conv1.weight is \[\], expected 5 dim"),
        ({"encoder.conv1.weight": [0, 3, 3, 3, 3]}, r"conv1.weight is \[0, 3, 3, 3, 3\], expected 5 dimensions over 0"),
        ({"encoder.conv1.weight": [4, 3, 3, 3, 3], "conv2.weight": [16]}, r"conv2.weight is \[16\], expected 5 dim"),
    ],
)
def test_original_vae_without_its_sizes(tmp_path, state, text):
    save_file({name: torch.ones(shape) for name, shape in state.items()}, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=text):
        load_vae(str(tmp_path / "m.safetensors"), CPU, torch.float32)


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "change",
    [{"z_dim": "x"}, {"dim_mult": None}, {"dim_mult": []}, {"base_dim": -4}, {"temperal_downsample": [1]}],
    ids=str,
)
def test_vae_with_a_damaged_config(tmp_path, change):
    tiny_vae(0).save_pretrained(tmp_path)
    change_config(tmp_path, **change)
    with pytest.raises(CheckpointError, match=r"no Wan VAE can be built from its config: \w+Error: [^\n]+$") as caught:
        load_vae(str(tmp_path), CPU, torch.float32)
    assert caught.value.__cause__ is not None


def vae_of(**options):
    return AutoencoderKLWan(**{"base_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, **options})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dim_mult": [1, 1, 1], "temperal_downsample": [True, True]}, "has stride 4x4x4, its config says 4x8x8"),
        ({"temperal_downsample": [True, True, True]}, "has stride 8x8x8, its config says 4x8x8"),
        ({"temperal_downsample": [False, False, True]}, "has stride 2x8x8, its config says 4x8x8"),
        ({"temperal_downsample": [False, False, True, True]}, "has stride 2x8x8, its config says 4x8x8"),
        ({"latents_mean": [1.0]}, r"latents_mean of the VAE is \[1\], expected \[16\]"),
        ({"latents_std": [1.0] * 17}, r"latents_std of the VAE is \[17\], expected \[16\]"),
        ({"latents_std": [1.0] * 15 + [0.0]}, "latents_std of the VAE must be over 0, not 0"),
        ({"latents_std": [-2.0] + [1.0] * 15}, "latents_std of the VAE must be over 0, not -2"),
        ({"latents_mean": [float("nan")] * 16}, "latents_mean of the VAE must be finite, not .*nan"),
        ({"latents_mean": ["x"] * 16}, "latents_mean of the VAE must be a list of numbers, not .*'x'"),
        ({"latents_mean": None}, "latents_mean of the VAE must be a list of numbers, not None"),
    ],
)
def test_vae_whose_config_does_not_hold(options, text):
    with pytest.raises(CheckpointError, match=text):
        VaeCodec(vae_of(**options))


def test_text_encoder_from_a_transformers_folder(tmp_path):
    encoder = tiny_text_encoder(0)
    encoder.model.save_pretrained(tmp_path / "text_encoder")
    encoder.tokenizer.save_pretrained(tmp_path / "tokenizer")
    found = load_text_encoder(str(tmp_path), None, 32, 32, CPU, torch.float32)
    assert torch.equal(found(PROMPTS), encoder(PROMPTS))
    apart = load_text_encoder(str(tmp_path / "text_encoder"), str(tmp_path / "tokenizer"), 32, 32, CPU, torch.float32)
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
    found = load_text_encoder(str(tmp_path / "models_t5_umt5-xxl-enc-bf16.pth"), None, 32, 32, CPU, torch.float32)
    assert torch.equal(found(PROMPTS), encoder(PROMPTS))


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"token_embedding.weight": [259]}, r"token_embedding.weight is \[259\], expected 2 dimensions"),
        ({"token_embedding.weight": [259, 32]}, "has no tensor 'blocks.0.pos_embedding.embedding.weight'"),
        (
            {
                "token_embedding.weight": [259, 32],
                "blocks.0.pos_embedding.embedding.weight": [32, 5],
                "blocks.0.attn.q.weight": [32, 32],
            },
            "is not a UMT5: its attention of width 32 has 5 heads",
        ),
    ],
)
def test_original_text_encoder_without_its_sizes(tmp_path, state, text):
    torch.save({name: torch.ones(shape) for name, shape in state.items()}, tmp_path / "t5.pth")
    with pytest.raises(CheckpointError, match=text):
        load_text_encoder(str(tmp_path / "t5.pth"), None, 32, 32, CPU, torch.float32)


@pytest.mark.parametrize("change", [{"d_model": "x"}, {"num_heads": 0}, {"vocab_size": -1}, {"dense_act_fn": "z"}])
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_text_encoder_with_a_damaged_config(tmp_path, change):
    save_text_encoder(tmp_path)
    change_config(tmp_path / "text_encoder", **change)
    with pytest.raises(CheckpointError, match="text_encoder") as caught:
        load_text_encoder(str(tmp_path), None, 32, 32, CPU, torch.float32)
    assert "\n" not in str(caught.value)


def test_text_encoder_without_a_config(tmp_path):
    save_text_encoder(tmp_path)
    (tmp_path / "text_encoder" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no config.json, which says the sizes of a text encoder"):
        load_text_encoder(str(tmp_path), None, 32, 32, CPU, torch.float32)


def test_text_encoder_of_another_width_is_refused_with_both(tmp_path):
    save_text_encoder(tmp_path)
    with pytest.raises(CheckpointError, match="is a text encoder of width 32, the base model takes width 64"):
        load_text_encoder(str(tmp_path), None, 32, 64, CPU, torch.float32)


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused_with_both(tmp_path):
    save_text_encoder(tmp_path)
    small = UMT5Config(vocab_size=9, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    UMT5EncoderModel(small).save_pretrained(tmp_path / "text_encoder")
    with pytest.raises(CheckpointError, match="has a vocabulary of 9, its tokenizer one of 259"):
        load_text_encoder(str(tmp_path), None, 32, 32, CPU, torch.float32)


def test_where_a_tokenizer_is_looked_for(tmp_path):
    """In a folder itself where it has no ``tokenizer/``; beside an original file; nowhere else."""
    encoder = tiny_text_encoder(0)
    encoder.model.save_pretrained(tmp_path / "one")
    encoder.tokenizer.save_pretrained(tmp_path / "one")
    assert torch.equal(
        load_text_encoder(str(tmp_path / "one"), None, 32, 32, CPU, torch.float32)(PROMPTS), encoder(PROMPTS)
    )
    torch.save(original_text(encoder.model.state_dict()), tmp_path / "t5.pth")
    with pytest.raises(CheckpointError, match="no tokenizer folder at .*umt5-xxl: give weights.tokenizer"):
        load_text_encoder(str(tmp_path / "t5.pth"), None, 32, 32, CPU, torch.float32)


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_damaged_tokenizer_is_one_whole_line(tmp_path, content):
    save_text_encoder(tmp_path)
    file = tmp_path / "tokenizer" / "tokenizer.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer holds no tokenizer: \w+: [^\n]*[^:\n]$"):
        load_text_encoder(str(tmp_path), None, 32, 32, CPU, torch.float32)


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
        load_text_encoder(str(tmp_path), None, 32, 32, CPU, torch.float32)
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="is not a UMT5 encoder: it has no shared.weight"):
        load_text_encoder(str(tmp_path), None, 32, 32, CPU, torch.float32)
