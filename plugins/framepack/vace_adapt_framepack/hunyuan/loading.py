"""FramePack on HunyuanVideo from its released folders, or around a live model of either class."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoFramepackTransformer3DModel
from torch import nn
from transformers import SiglipVisionModel

from vace_adapt.contract import WeightsSettings
from vace_adapt.errors import CheckpointError
from vace_adapt.weights.causal import check_live_model
from vace_adapt.weights.checkpoint import Checkpoint, open_checkpoint
from vace_adapt.weights.foreign import refusing
from vace_adapt.weights.locate import locate
from vace_adapt_framepack.hunyuan.codec import HunyuanCodec
from vace_adapt_framepack.hunyuan.context import HunyuanContext
from vace_adapt_framepack.hunyuan.folders import inside, loaded
from vace_adapt_framepack.hunyuan.images import SiglipImages
from vace_adapt_framepack.hunyuan.parts import HunyuanParts
from vace_adapt_framepack.hunyuan.prompts import HunyuanPrompts
from vace_adapt_framepack.memory import check_memory, main_memory, save_memory
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
    check_memory(settings, device, live=model is not None)
    control = None if weights.control is None else open_control(weights.control, settings, weights)
    if weights.lora is not None:
        raise CheckpointError("weights.lora is given, and FramePack comes without a LoRA")
    for part in NEEDED if model is None else NEEDED[1:]:
        _given(part, getattr(weights, part))
    images = _given("image_encoder", settings.image_encoder, "pipeline")
    if model is None:
        layout, own = "hunyuan", _load_model(settings, weights, dtype)
        model = own.to(main_memory(settings, device)).eval().requires_grad_(False)
    elif weights.base:
        raise CheckpointError("a live model brings its own weights: leave weights.base out")
    else:
        own = None
        check_live_model(model, layout, _sizes, _expected(settings))
        weight = next(model.get_submodule("x_embedder").parameters())
        device, dtype = weight.device, weight.dtype
    download = weights.download
    vae = loaded(AutoencoderKLHunyuanVideo, inside(str(weights.vae), "vae", download=download), dtype)
    HunyuanCodec(vae)
    context = None if control is None else load_context(control, model)
    vision = loaded(SiglipVisionModel, inside(images, "image_encoder", download=download), dtype)
    _fits("pipeline.image_encoder", vision.config.hidden_size, model.get_submodule("image_projection.up").in_features)
    prompts = HunyuanPrompts.load(
        locate(str(weights.text_encoder), download=download), main_memory(settings, device), dtype
    )
    _fits("weights.text_encoder, Llama", prompts.width, model.get_submodule("context_embedder.proj_in").in_features)
    pooled = model.get_submodule("time_text_embed.text_embedder.linear_1").in_features
    _fits("weights.text_encoder, CLIP", prompts.pooled_width, pooled)
    if own is not None:
        save_memory(own, settings, device, dtype)
    return HunyuanParts(
        model=model,
        layout=layout,
        settings=settings,
        device=device,
        dtype=dtype,
        backbone=settings.sizes,
        vae=vae.to(device).eval().requires_grad_(False),
        text_encoder=prompts,
        draws=1,
        solver_steps=settings.denoise_steps(toy=False),
        starts_from_video=True,
        chunks_at_once=settings.sections if settings.sampling == "inverted" else 1,
        codec=HunyuanCodec,
        hinted_blocks=() if context is None else context.layers,
        image_encoder=SiglipImages(vision.to(device).eval().requires_grad_(False), vision.config.image_size),
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


def _load_model(
    settings: FramePackSettings, weights: WeightsSettings, dtype: torch.dtype
) -> HunyuanVideoFramepackTransformer3DModel:
    """FramePack's model in main memory; its config is looked at before its weights are read.

    Raises:
        CheckpointError: no such model, of other sizes, or a HunyuanVideo that was not made for a packed history.
    """
    kind = HunyuanVideoFramepackTransformer3DModel
    folder = inside(str(weights.base), "transformer", download=weights.download)
    with refusing(CheckpointError, f"{folder} is no {kind.__name__}"):
        config = kind.load_config(folder, local_files_only=True)
        width = config["num_attention_heads"] * config["attention_head_dim"]
        blocks = config["num_layers"] + config["num_single_layers"]
    if not (config.get("has_clean_x_embedder") and config.get("has_image_proj")):
        raise CheckpointError(f"{folder} is a HunyuanVideo without FramePack's packing (has_clean_x_embedder)")
    for what, came in (("width", width), ("number of blocks", blocks)):
        if came != _expected(settings)[what]:
            raise CheckpointError(f"{folder} has {what} {came}, the settings say {_expected(settings)[what]}")
    made: HunyuanVideoFramepackTransformer3DModel = loaded(kind, folder, dtype, strict=True)
    return made


def _sizes(model: Any) -> dict[str, object]:
    width = model.get_submodule("x_embedder.proj").out_channels
    blocks = [len(list(model.get_submodule(s).children())) for s in ("transformer_blocks", "single_transformer_blocks")]
    model.get_submodule("clean_x_embedder.proj_4x")
    model.get_submodule("image_projection.up")
    return {"width": width, "number of blocks": sum(blocks)}


def _expected(settings: FramePackSettings) -> dict[str, object]:
    return {"width": settings.sizes.dim, "number of blocks": settings.sizes.layers}


def _fits(part: str, came: int, expected: Any) -> None:
    if came != expected:
        raise CheckpointError(f"{part} is of width {came}, the base model takes width {expected}")


def _given(part: str, source: str | None, section: str = "weights") -> str:
    if source is None:
        raise CheckpointError(
            f"{section}.{part} is not given: FramePack on HunyuanVideo needs weights.base, weights.vae, "
            "weights.text_encoder and pipeline.image_encoder"
        )
    return source
