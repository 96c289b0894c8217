"""FramePack on HunyuanVideo from its released folders, or around a live model of either class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoFramepackPipeline,
    HunyuanVideoFramepackTransformer3DModel,
)
from torch import nn
from transformers import (
    CLIPTextModel,
    CLIPTokenizer,
    LlamaModel,
    LlamaTokenizerFast,
    SiglipImageProcessor,
    SiglipVisionModel,
)

from vace_adapt.contract import WeightsSettings
from vace_adapt.errors import CheckpointError
from vace_adapt.weights.causal import check_live_model
from vace_adapt.weights.checkpoint import Checkpoint, open_checkpoint
from vace_adapt.weights.foreign import refusing
from vace_adapt.weights.locate import locate
from vace_adapt_framepack.hunyuan.codec import HunyuanCodec
from vace_adapt_framepack.hunyuan.context import HunyuanContext
from vace_adapt_framepack.hunyuan.images import SiglipImages
from vace_adapt_framepack.hunyuan.parts import HunyuanParts, HunyuanPrompt
from vace_adapt_framepack.settings import FramePackSettings

NEEDED = ("base", "vae", "text_encoder")


def load_parts(
    settings: FramePackSettings,
    weights: WeightsSettings,
    device: torch.device,
    dtype: torch.dtype,
    model: nn.Module | None,
    layout: str,
) -> HunyuanParts:
    """Load what `weights` names; see the hook `vace_load_pipeline`.

    ``base`` is a folder of FramePack (``FramePackI2V_HY`` or ``FramePack_F1_I2V_HY_20250503``), ``vae`` and
    ``text_encoder`` are folders of HunyuanVideo in diffusers' layout, ``pipeline.image_encoder`` one of SigLIP.
    """
    control = None if weights.control is None else open_control(weights.control, settings, weights)
    if weights.lora is not None:
        raise CheckpointError("weights.lora is given, and FramePack comes without a LoRA")
    for part in NEEDED if model is None else NEEDED[1:]:
        _given(part, getattr(weights, part))
    images = _given("image_encoder", settings.image_encoder, "pipeline")
    if model is None:
        model, layout = _pretrained(HunyuanVideoFramepackTransformer3DModel, weights.base, weights, dtype), "hunyuan"
        model = model.to(device).eval().requires_grad_(False)
    elif weights.base:
        raise CheckpointError("a live model brings its own weights: leave weights.base out")
    check_live_model(model, layout, _sizes, _expected(settings))
    weight = next(model.get_submodule("x_embedder").parameters())
    vae = _pretrained(AutoencoderKLHunyuanVideo, weights.vae, weights, weight.dtype, "vae")
    context = None if control is None else load_context(control, model)
    vision = _pretrained(SiglipVisionModel, images, weights, weight.dtype, "image_encoder")
    return HunyuanParts(
        model=model,
        layout=layout,
        settings=settings,
        device=weight.device,
        dtype=weight.dtype,
        backbone=settings.sizes,
        vae=vae.to(weight.device).eval().requires_grad_(False),
        text_encoder=HunyuanPrompts(str(weights.text_encoder), weights, weight.device, weight.dtype),
        draws=1,
        solver_steps=settings.denoise_steps(toy=False),
        starts_from_video=True,
        chunks_at_once=settings.sections if settings.sampling == "inverted" else 1,
        codec=HunyuanCodec,
        hinted_blocks=() if context is None else context.layers,
        image_encoder=SiglipImages(vision.to(weight.device).eval().requires_grad_(False), vision.config.image_size),
        context=context,
    )


def open_control(source: str, settings: FramePackSettings, weights: WeightsSettings) -> Checkpoint:
    """Context blocks for this backend.

    Raises:
        CheckpointError: Wan's VACE weights, with both widths and where they fit; or no context blocks at all.
    """
    checkpoint = open_checkpoint(source, download=weights.download, subfolder="transformer")
    if "vace_patch_embedding.weight" in checkpoint:
        width = checkpoint.shape("vace_patch_embedding.weight", 5)[0]
        raise CheckpointError(
            f"{checkpoint.path} holds VACE weights of Wan2.1, width {width}: HunyuanVideo's model has width "
            f"{settings.sizes.dim}, other blocks, another VAE and another text encoder, and cannot take them. "
            "pipeline.backend=wan can"
        )
    if "context_embed.weight" not in checkpoint:
        raise CheckpointError(f"{checkpoint.path} holds no context blocks for HunyuanVideo: no context_embed")
    return checkpoint


def load_context(checkpoint: Checkpoint, model: Any) -> HunyuanContext:
    """Context blocks beside a base; which blocks receive hints is told by the names of their tensors.

    Raises:
        CheckpointError: tensors that do not fit the base's blocks.
    """
    layers = sorted({int(name.split(".")[1]) for name in checkpoint if name.startswith("after_proj.")})
    count = len(model.transformer_blocks) + len(model.single_transformer_blocks)
    if not layers or layers[-1] >= count:
        raise CheckpointError(f"{checkpoint.path} has context blocks for blocks {layers}, the base model has {count}")
    context = HunyuanContext.beside(model, layers)
    with refusing(CheckpointError, f"{checkpoint.path} does not fit the base model"):
        context.load_state_dict({name: checkpoint.tensor(name) for name in checkpoint})
    return context


class HunyuanPrompts:
    """Llama and CLIP, with diffusers' own prompt template and cropping.

    Args:
        source: folder with ``text_encoder/``, ``tokenizer/``, ``text_encoder_2/`` and ``tokenizer_2/``.
        weights: whether it may be fetched.
        device, dtype: of the encoders.
    """

    def __init__(self, source: str, weights: WeightsSettings, device: torch.device, dtype: torch.dtype) -> None:
        parts = {
            "text_encoder": _pretrained(LlamaModel, source, weights, dtype, "text_encoder"),
            "text_encoder_2": _pretrained(CLIPTextModel, source, weights, dtype, "text_encoder_2"),
            "tokenizer": _pretrained(LlamaTokenizerFast, source, weights, None, "tokenizer"),
            "tokenizer_2": _pretrained(CLIPTokenizer, source, weights, None, "tokenizer_2"),
        }
        self._encoders = [parts[name].to(device).eval() for name in ("text_encoder", "text_encoder_2")]
        self._pipeline = HunyuanVideoFramepackPipeline(
            **parts,
            transformer=None,
            vae=None,
            scheduler=FlowMatchEulerDiscreteScheduler(),
            image_encoder=None,
            feature_extractor=SiglipImageProcessor(),
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> HunyuanPrompts:
        """Move the encoders."""
        for encoder in self._encoders:
            encoder.to(device, dtype)
        return self

    def __call__(self, prompts: Sequence[str]) -> HunyuanPrompt:
        device = self._encoders[0].device
        tokens, pooled, mask = self._pipeline.encode_prompt(list(prompts), device=device)
        return HunyuanPrompt(tokens, mask.long(), pooled)


def _pretrained(
    kind: Any, source: str | None, weights: WeightsSettings, dtype: torch.dtype | None, part: str | None = None
) -> Any:
    """One part of a folder or hub id."""
    path = locate(str(source), download=weights.download)
    folder = path / part if part is not None and (path / part).is_dir() else path
    options = {} if dtype is None else {"torch_dtype": dtype}
    with refusing(CheckpointError, f"{folder} is no {kind.__name__}"):
        return kind.from_pretrained(folder, local_files_only=True, **options)


def _sizes(model: Any) -> dict[str, object]:
    width = model.get_submodule("x_embedder.proj").out_channels
    blocks = [len(list(model.get_submodule(s).children())) for s in ("transformer_blocks", "single_transformer_blocks")]
    model.get_submodule("clean_x_embedder.proj_4x")
    model.get_submodule("image_projection.up")
    return {"width": width, "number of blocks": sum(blocks)}


def _expected(settings: FramePackSettings) -> dict[str, object]:
    return {"width": settings.sizes.dim, "number of blocks": settings.sizes.layers}


def _given(part: str, source: str | None, section: str = "weights") -> str:
    if source is None:
        raise CheckpointError(
            f"{section}.{part} is not given: FramePack on HunyuanVideo needs weights.base, weights.vae, "
            "weights.text_encoder and pipeline.image_encoder"
        )
    return source
