"""The tiny pipeline of backend ``hunyuan``: the same classes with random weights of toy size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoFramepackTransformer3DModel
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from vace_adapt.contract import Backbone
from vace_adapt.embedded.tiny import TINY, seeded, tiny_text_encoder
from vace_adapt.models.text_encoder import Umt5TextEncoder
from vace_adapt_framepack.hunyuan.codec import HunyuanCodec
from vace_adapt_framepack.hunyuan.context import HunyuanContext
from vace_adapt_framepack.hunyuan.images import SiglipImages
from vace_adapt_framepack.hunyuan.parts import HunyuanParts, HunyuanPrompt
from vace_adapt_framepack.memory import check_memory
from vace_adapt_framepack.settings import FramePackSettings

TINY_HUNYUAN = Backbone(dim=32, ffn_dim=64, heads=2, layers=5, text_dim=TINY.text_dim, text_len=TINY.text_len)
"""Two dual and three single blocks."""

TINY_LAYERS = (0, 3)
_POOLED = 8
_IMAGE = 12


def tiny_model() -> HunyuanVideoFramepackTransformer3DModel:
    """A model of these sizes, with fresh weights."""
    sizes = TINY_HUNYUAN
    return HunyuanVideoFramepackTransformer3DModel(
        num_attention_heads=sizes.heads,
        attention_head_dim=sizes.head_dim,
        num_layers=2,
        num_single_layers=3,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        text_embed_dim=sizes.text_dim,
        pooled_projection_dim=_POOLED,
        rope_axes_dim=(4, 6, 6),
        has_image_proj=True,
        image_proj_dim=_IMAGE,
        has_clean_x_embedder=True,
    )


def tiny_parts(settings: FramePackSettings, seed: int) -> HunyuanParts:
    """See the hook `vace_tiny_pipeline`. Its context blocks are those of a fresh control: they add nothing."""
    check_memory(settings, torch.device("cpu"), toy=True)
    model = seeded(tiny_model, seed, "base")
    sizes = SiglipVisionConfig(
        hidden_size=_IMAGE,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    images = seeded(lambda: SiglipVisionModel(sizes), seed, "images")
    return HunyuanParts(
        model=model,
        layout="hunyuan",
        settings=settings,
        device=torch.device("cpu"),
        dtype=torch.float32,
        backbone=TINY_HUNYUAN,
        vae=seeded(_tiny_vae, seed, "vae"),
        text_encoder=TinyPrompts(tiny_text_encoder(seed)),
        draws=1,
        solver_steps=settings.denoise_steps(toy=True),
        starts_from_video=True,
        chunks_at_once=settings.sections if settings.sampling == "inverted" else 1,
        codec=HunyuanCodec,
        hinted_blocks=TINY_LAYERS,
        trained=False,
        image_encoder=SiglipImages(images, 32),
        context=HunyuanContext.beside(model, TINY_LAYERS),
    )


class TinyPrompts:
    """Prompts from a text encoder of toy size; CLIP's vector is a piece of its mean."""

    def __init__(self, encoder: Umt5TextEncoder) -> None:
        self._encoder = encoder

    def to(self, device: torch.device, dtype: torch.dtype) -> TinyPrompts:
        self._encoder.to(device, dtype)
        return self

    def __call__(self, prompts: Sequence[str]) -> HunyuanPrompt:
        tokens: Tensor = self._encoder(prompts)
        mask = (tokens != 0).any(dim=2).long()
        return HunyuanPrompt(tokens, mask, tokens.sum(dim=1)[:, :_POOLED] / mask.sum(dim=1, keepdim=True))


def _tiny_vae() -> AutoencoderKLHunyuanVideo:
    return AutoencoderKLHunyuanVideo(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2, mid_block_add_attention=False
    )
