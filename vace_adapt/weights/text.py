"""UMT5 from a transformers folder or from Wan's original file."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

from vace_adapt.errors import CheckpointError
from vace_adapt.models.text_encoder import Umt5TextEncoder
from vace_adapt.weights.checkpoint import Checkpoint, locate, open_checkpoint
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
    device: torch.device,
    dtype: torch.dtype,
    *,
    download: bool = False,
) -> Umt5TextEncoder:
    """Load text encoder and tokenizer.

    Args:
        source: a transformers folder, a pipeline folder with ``text_encoder/``, or ``models_t5_umt5-xxl-enc-bf16.pth``.
        tokenizer: folder of the tokenizer; None means ``tokenizer/`` beside or inside `source`.
        length: tokens of a prompt.

    Raises:
        CheckpointError: unreadable, or not a UMT5.
    """
    checkpoint = open_checkpoint(source, download=download, subfolder="text_encoder")
    names, config = _original(checkpoint) if "token_embedding.weight" in checkpoint else _transformers(checkpoint)
    model = fill(lambda: UMT5EncoderModel(config), checkpoint, names, device, dtype, float32_parts=())
    model.set_input_embeddings(model.get_input_embeddings())  # the two names share one tensor again
    return Umt5TextEncoder(model, _tokenizer(source, tokenizer, download=download), length)


def _original(checkpoint: Checkpoint) -> tuple[dict[str, str], UMT5Config]:
    names = {}
    for name in checkpoint:
        new = name
        for pattern, replacement in ORIGINAL:
            new = re.sub(pattern, replacement, new)
        names[new] = name
    vocabulary, width = checkpoint.shape("token_embedding.weight")
    inner = checkpoint.shape("blocks.0.attn.q.weight")[0]
    buckets, heads = checkpoint.shape("blocks.0.pos_embedding.embedding.weight")
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=inner // heads,
        d_ff=checkpoint.shape("blocks.0.ffn.fc1.weight")[0],
        num_layers=len({name.split(".")[1] for name in checkpoint if name.startswith("blocks.")}),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
    )
    return {**names, "encoder.embed_tokens.weight": "token_embedding.weight"}, config


def _transformers(checkpoint: Checkpoint) -> tuple[dict[str, str], UMT5Config]:
    if "shared.weight" not in checkpoint:
        raise CheckpointError(f"{checkpoint.path} is not a UMT5 encoder: it has no shared.weight")
    names = {name: name for name in checkpoint}
    return {**names, "encoder.embed_tokens.weight": "shared.weight"}, UMT5Config(**checkpoint.config)


def _tokenizer(source: str, tokenizer: str | None, *, download: bool) -> object:
    folder = locate(tokenizer or source, download=download)
    inside = folder / "tokenizer" if folder.is_dir() else folder.parent / "google" / "umt5-xxl"
    chosen = inside if tokenizer is None and inside.exists() else folder
    if not Path(chosen).is_dir():
        raise CheckpointError(f"no tokenizer folder at {chosen}: give weights.tokenizer")
    try:
        return AutoTokenizer.from_pretrained(chosen, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{chosen} holds no tokenizer: {str(error).splitlines()[0]}") from error
