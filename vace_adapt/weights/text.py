"""UMT5 from a transformers folder or from Wan's original file."""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

from vace_adapt.errors import CheckpointError
from vace_adapt.models.text_encoder import Umt5TextEncoder
from vace_adapt.weights.checkpoint import Checkpoint, open_checkpoint
from vace_adapt.weights.foreign import refusing
from vace_adapt.weights.locate import locate
from vace_adapt.weights.modules import fill

ORIGINAL = (
    (r"^token_embedding\.", "shared."),
    (r"^blocks\.(\d+)\.norm1\.", r"encoder.block.\1.layer.0.layer_norm."),
    (r"^blocks\.(\d+)\.attn\.", r"encoder.block.\1.layer.0.SelfAttention."),
    (r"^blocks\.(\d+)\.pos_embedding\.embedding\.", r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias."),
    (r"^blocks\.(\d+)\.norm2\.", r"encoder.block.\1.layer.1.layer_norm."),
    (r"^blocks\.(\d+)\.ffn\.gate\.0\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_0."),
    (r"^blocks\.(\d+)\.ffn\.fc1\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_1."),
    (r"^blocks\.(\d+)\.ffn\.fc2\.", r"encoder.block.\1.layer.1.DenseReluDense.wo."),
    (r"^norm\.", "encoder.final_layer_norm."),
)
"""Names in Wan's T5 (Wan-Video/Wan2.1 wan/modules/t5.py) to transformers' UMT5."""


def load_text_encoder(
    source: str,
    tokenizer: str | None,
    length: int,
    width: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    download: bool = False,
) -> Umt5TextEncoder:
    """Load text encoder and tokenizer.

    Args:
        source: a transformers folder, a pipeline folder with ``text_encoder/``, or ``models_t5_umt5-xxl-enc-bf16.pth``.
        tokenizer: folder of the tokenizer. None means ``tokenizer/`` inside a `source` that is a folder, or that folder
            itself if it has none; and ``google/umt5-xxl/`` beside a `source` that is a file.
        length: tokens of a prompt.
        width: of the embeddings the base model takes.

    Raises:
        CheckpointError: unreadable, not a UMT5, of another width, or with fewer words than its tokenizer.
    """
    checkpoint = open_checkpoint(source, download=download, subfolder="text_encoder")
    names, config = _original(checkpoint) if "token_embedding.weight" in checkpoint else _transformers(checkpoint)
    if config.d_model != width:
        raise CheckpointError(
            f"{checkpoint.path} is a text encoder of width {config.d_model}, the base model takes width {width}"
        )
    words = _tokenizer(source, tokenizer, download=download)
    if len(words) > config.vocab_size:
        raise CheckpointError(
            f"{checkpoint.path} has a vocabulary of {config.vocab_size}, its tokenizer one of {len(words)}"
        )

    def build() -> UMT5EncoderModel:
        with refusing(CheckpointError, f"{checkpoint.path}: no UMT5 can be built from its config"):
            return UMT5EncoderModel(config)

    model = fill(build, checkpoint, names, device, dtype, float32_parts=())
    model.set_input_embeddings(model.get_input_embeddings())  # the two names share one tensor again
    return Umt5TextEncoder(model, words, length)


def _original(checkpoint: Checkpoint) -> tuple[dict[str, str], UMT5Config]:
    names = {}
    for name in checkpoint:
        new = name
        for pattern, replacement in ORIGINAL:
            new = re.sub(pattern, replacement, new)
        names[new] = name
    vocabulary, width = checkpoint.shape("token_embedding.weight", 2)
    buckets, heads = checkpoint.shape("blocks.0.pos_embedding.embedding.weight", 2)
    inner = checkpoint.shape("blocks.0.attn.q.weight", 2)[0]
    if inner % heads:
        raise CheckpointError(f"{checkpoint.path} is not a UMT5: its attention of width {inner} has {heads} heads")
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=inner // heads,
        d_ff=checkpoint.shape("blocks.0.ffn.fc1.weight", 2)[0],
        num_layers=len({name.split(".")[1] for name in checkpoint if name.startswith("blocks.")}),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
    )
    return {**names, "encoder.embed_tokens.weight": "token_embedding.weight"}, config


def _transformers(checkpoint: Checkpoint) -> tuple[dict[str, str], UMT5Config]:
    if "shared.weight" not in checkpoint:
        raise CheckpointError(f"{checkpoint.path} is not a UMT5 encoder: it has no shared.weight")
    if not checkpoint.config:
        raise CheckpointError(f"{checkpoint.path} has no config.json, which says the sizes of a text encoder")
    with refusing(CheckpointError, f"{checkpoint.path}: its config describes no UMT5"):
        config = UMT5Config(**checkpoint.config)
    names = {name: name for name in checkpoint}
    return {**names, "encoder.embed_tokens.weight": "shared.weight"}, config


def _tokenizer(source: str, tokenizer: str | None, *, download: bool) -> Any:
    """The tokenizer of a folder, or the one that belongs to `source`."""
    folder = locate(tokenizer or source, download=download)
    if tokenizer is None:
        inside = folder / "tokenizer" if folder.is_dir() else folder.parent / "google" / "umt5-xxl"
        folder = inside if inside.is_dir() or folder.is_file() else folder
    if not folder.is_dir():
        raise CheckpointError(f"no tokenizer folder at {folder}: give weights.tokenizer")
    with refusing(CheckpointError, f"{folder} holds no tokenizer"):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
