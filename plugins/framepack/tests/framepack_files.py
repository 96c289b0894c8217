"""Tiny checkpoints in the layouts that FramePack's parts are released in."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_framepack import DEFAULT_PROMPT_TEMPLATE
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel, SiglipImageProcessorPil

from vace_adapt_framepack.hunyuan.parts import HunyuanParts
from vace_adapt_framepack.hunyuan.tiny import TINY_HUNYUAN, tiny_parts
from vace_adapt_framepack.settings import FramePackSettings

OFFICIAL_ARGUMENTS = (
    "in_channels", "out_channels", "num_attention_heads", "attention_head_dim", "num_layers", "num_single_layers",
    "num_refiner_layers", "mlp_ratio", "patch_size", "patch_size_t", "qk_norm", "guidance_embeds", "text_embed_dim",
    "pooled_projection_dim", "rope_theta", "rope_axes_dim", "has_image_proj", "image_proj_dim", "has_clean_x_embedder",
)  # fmt: skip
"""Of `HunyuanVideoTransformer3DModelPacked`, which is what the released config names."""

SIZES = {"backend": "hunyuan", "backbone": TINY_HUNYUAN.model_dump(), "steps": 1}
"""The ``pipeline`` section of these files, save where the image encoder lies."""

LLAMA_SPECIAL = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<pad>",
)  # fmt: skip

_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
_POOLED = 8


def save_hunyuan(folder: Path) -> HunyuanParts:
    """Write every part, and give those that the model, the VAE and the image encoder are of.

    ``framepack/`` is a model's repository, ``hunyuan/`` the one of VAE and text encoders, ``redux/`` that of SigLIP.
    """
    parts = tiny_parts(FramePackSettings(name="framepack", backend="hunyuan"), 0)
    save_model(parts.model, folder / "framepack")
    parts.vae.save_pretrained(folder / "hunyuan" / "vae")
    parts.image_encoder._model.save_pretrained(folder / "redux" / "image_encoder")
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder / "redux" / "feature_extractor")
    save_text_encoders(folder / "hunyuan")
    return parts


def weights_of(folder: Path) -> dict[str, str]:
    """The ``weights`` section."""
    hunyuan = str(folder / "hunyuan")
    return {"base": str(folder / "framepack"), "vae": hunyuan, "text_encoder": hunyuan}


def settings_of(folder: Path) -> dict[str, object]:
    """The ``pipeline`` section."""
    return {**SIZES, "image_encoder": str(folder / "redux")}


def save_model(model: torch.nn.Module, folder: Path) -> None:
    """In shards, under the name of the official class."""
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    config = json.loads((folder / "config.json").read_text())
    official = {name: config[name] for name in OFFICIAL_ARGUMENTS}
    (folder / "config.json").write_text(
        json.dumps({"_class_name": "HunyuanVideoTransformer3DModelPacked", "_diffusers_version": "0.33.1", **official})
    )


def save_text_encoders(folder: Path) -> None:
    """Llama and CLIP of random weights, with tokenizers of their kinds."""
    words = save_llama_tokenizer(folder / "tokenizer")
    torch.manual_seed(0)
    LlamaModel(
        LlamaConfig(
            vocab_size=words,
            hidden_size=TINY_HUNYUAN.text_dim,
            intermediate_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=512,
        )
    ).save_pretrained(folder / "text_encoder")
    words = save_clip_tokenizer(folder / "tokenizer_2")
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=_POOLED,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=words - 2,
            eos_token_id=words - 1,
            pad_token_id=words - 1,
        )
    ).save_pretrained(folder / "text_encoder_2")


def save_llama_tokenizer(folder: Path) -> int:
    """One of Llama 3's kind: byte pairs of bytes, no sentence pieces. Gives the number of words.

    As of Llama 3, HunyuanVideo's template is of 95 tokens; here one long word makes up for what bytes are more.
    """
    lead = DEFAULT_PROMPT_TEMPLATE["template"].partition("{}")[0]
    system = lead.partition("\n\n")[2].partition("<|")[0]
    tokenizer = next(made for cut in range(1, len(system)) if _tokens(made := llama_words(system[:-cut]), lead) == 95)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": LLAMA_SPECIAL[0],
        "eos_token": LLAMA_SPECIAL[1],
        "pad_token": "<pad>",
        "padding_side": "right",
        "model_max_length": 1000,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer.get_vocab_size()


def llama_words(long: str) -> Tokenizer:
    """A tokenizer of bytes, a few pairs, and one long word."""
    vocabulary = {letter: i for i, letter in enumerate([*_BYTES, "re", "red", "Ġb"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("r", "e"), ("re", "d"), ("Ġ", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in LLAMA_SPECIAL])
    tokenizer.add_tokens([AddedToken(long, normalized=False)])
    begin = LLAMA_SPECIAL[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    return tokenizer


def _tokens(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text).ids)


def save_clip_tokenizer(folder: Path) -> int:
    """One of CLIP's kind. Gives the number of words."""
    begin, end = "<|startoftext|>", "<|endoftext|>"
    words = [*_BYTES, *(f"{letter}</w>" for letter in _BYTES), "re", "red</w>", begin, end]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    config = {
        "tokenizer_class": "CLIPTokenizer", "bos_token": begin, "eos_token": end, "unk_token": end, "pad_token": end,
        "model_max_length": 77,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(words)
