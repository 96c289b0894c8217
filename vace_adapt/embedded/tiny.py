"""Tiny parts of the real classes: no download, no GPU, random weights that depend on a seed only.

For tests, for the conformance of plugins, and for pipelines whose plugin ships no trained base.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from diffusers import AutoencoderKLWan
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from vace_adapt.context.blocks import ContextPath
from vace_adapt.contract import Backbone, PipelineParts, PipelineSettings
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.models.text_encoder import Umt5TextEncoder

Module = TypeVar("Module", bound=nn.Module)

TINY = Backbone(dim=48, ffn_dim=96, heads=2, layers=4, text_dim=32, text_len=32, freq_dim=32)
"""Sizes of the tiny base model."""

TINY_CONTROL_LAYERS = (0, 2)


def seeded(build: Callable[[], Module], seed: int, purpose: str) -> Module:
    """A module whose parameters are drawn from `seed` alone, ready for inference; the global generator is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build()
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(_draw(name, parameter, generator))
    return module.eval().requires_grad_(False)


def tiny_vae(seed: int) -> AutoencoderKLWan:
    """An `AutoencoderKLWan` of 30 thousand parameters with Wan2.1's strides, channels and latent statistics."""
    return seeded(lambda: AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1), seed, "vae")


def tiny_text_encoder(seed: int) -> Umt5TextEncoder:
    """A UMT5 of two layers over a byte-sized vocabulary."""
    config = UMT5Config(
        vocab_size=259, d_model=TINY.text_dim, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    model = seeded(lambda: UMT5EncoderModel(config), seed, "text")
    return Umt5TextEncoder(model, byte_tokenizer(), TINY.text_len)


def tiny_context_path(seed: int, backbone: Backbone = TINY, layers: Sequence[int] = TINY_CONTROL_LAYERS) -> ContextPath:
    """Context blocks for a tiny base. Their output projections are random, not zero, so that hints are felt."""
    return seeded(lambda: ContextPath(backbone, layers), seed, "context")


def tiny_wan_parts(settings: PipelineSettings, seed: int, draws: int) -> PipelineParts:
    """The tiny pipeline of a plugin whose base model is a native `CausalWan`; see the hook `vace_tiny_pipeline`.

    Args:
        settings, seed: as the hook got them.
        draws: noise draws a chunk uses.
    """
    return PipelineParts(
        model=seeded(lambda: CausalWan.of(TINY), seed, "base"),
        layout="native",
        settings=settings,
        device=torch.device("cpu"),
        dtype=torch.float32,
        backbone=TINY,
        vae=tiny_vae(seed),
        text_encoder=tiny_text_encoder(seed),
        draws=draws,
        control_layers=TINY_CONTROL_LAYERS,
        trained=False,
    )


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte: 0 padding, 1 end of text, 2 unknown."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, **{char: i + 3 for i, char in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def _draw(name: str, parameter: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Scales of norms near 1, everything else small enough that activations neither vanish nor explode."""
    noise = torch.randn(parameter.shape, generator=generator)
    if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
        return 1 + 0.1 * noise
    if parameter.ndim < 2:
        return 0.05 * noise
    fan_in: int = parameter[0].numel()
    return noise / math.sqrt(fan_in)
