"""Wan2.1 with packed history from files: Helios (``transformer/`` of its folder), or any Wan2.1 with pooled packing."""

from __future__ import annotations

import json
from typing import Any

import torch
from diffusers import HeliosTransformer3DModel
from diffusers.models.transformers.transformer_helios import HeliosRotaryPosEmbed
from einops import repeat
from torch import Tensor, nn

from vace_adapt.contract import PipelineParts, WeightsSettings
from vace_adapt.errors import CheckpointError
from vace_adapt.weights.base import check_sizes, diffusers_names
from vace_adapt.weights.causal import check_live_model
from vace_adapt.weights.checkpoint import Checkpoint, open_checkpoint
from vace_adapt.weights.foreign import refusing
from vace_adapt.weights.locate import locate
from vace_adapt.weights.modules import fill
from vace_adapt.weights.text import load_text_encoder
from vace_adapt.weights.vae import load_vae
from vace_adapt_framepack.memory import check_memory, main_memory, save_memory
from vace_adapt_framepack.settings import FramePackSettings
from vace_adapt_framepack.wan.model import helios_of

PACKING = {"patch_short": 1, "patch_mid": 2, "patch_long": 4}
"""Convolutions of the packed history, and how many frames, rows and columns of tokens a token of theirs stands for."""


def load_parts(
    settings: FramePackSettings,
    weights: WeightsSettings,
    device: torch.device,
    dtype: torch.dtype,
    model: nn.Module | None,
    layout: str,
) -> PipelineParts:
    """Load what `weights` names; see the hook `vace_load_pipeline`."""
    check_memory(settings, device, live=model is not None)
    if weights.lora is not None:
        raise CheckpointError("weights.lora is given, and Helios' LoRA is part of its released weights")
    sizes = settings.sizes
    for part in ("vae", "text_encoder", *(("base",) if model is None else ())):
        _given(weights, part)
    download = weights.download
    if model is None:
        model = load_helios(_given(weights, "base"), settings, main_memory(settings, device), dtype, download=download)
        save_memory(model, settings, device, dtype)
    elif weights.base:
        raise CheckpointError("a live model brings its own weights: leave weights.base out")
    else:
        expected = {"width": sizes.dim, "number of blocks": sizes.layers, "number of heads": sizes.heads}
        check_live_model(model, layout, _live_sizes, expected)
        weight = next(model.get_submodule("patch_embedding").parameters())
        device, dtype = weight.device, weight.dtype
    return PipelineParts(
        model=model,
        layout=layout,
        settings=settings,
        device=device,
        dtype=dtype,
        backbone=sizes,
        vae=load_vae(_given(weights, "vae"), device, dtype, download=download),
        text_encoder=load_text_encoder(
            _given(weights, "text_encoder"),
            weights.tokenizer,
            sizes.text_len,
            sizes.text_dim,
            main_memory(settings, device),
            dtype,
            download=download,
        ),
        draws=1,
        solver_steps=settings.denoise_steps(toy=False),
    )


def load_helios(
    source: str, settings: FramePackSettings, device: torch.device, dtype: torch.dtype, *, download: bool = False
) -> HeliosTransformer3DModel:
    """Load the base model strictly.

    Raises:
        CheckpointError: unreadable, of another width or depth, or without packing convolutions where they are to be
            read, or with them where they are to be made; or of a Helios that denoises in pyramid stages.
    """
    _refuse_pyramid(source, download=download)
    checkpoint = open_checkpoint(source, download=download, subfolder="transformer")
    names = diffusers_names(checkpoint, checkpoint)
    check_sizes(checkpoint, names, settings.sizes)
    trained = [part for part in PACKING if f"{part}.weight" in names]
    if settings.packing == "trained" and not trained:
        raise CheckpointError(
            f"{checkpoint.path} has no packing convolutions ({', '.join(PACKING)}): it is a plain Wan2.1, no Helios. "
            "packing=pooled makes them of its patch embedding (experimental: it was never trained to see them)"
        )
    if settings.packing == "pooled":
        if trained:
            raise CheckpointError(f"{checkpoint.path} has packing convolutions of its own: leave packing=trained")
        checkpoint, names = _pooled(checkpoint, names)
    if "scale_shift_table" in names:
        names["norm_out.scale_shift_table"] = names.pop("scale_shift_table")
    model = fill(lambda: helios_of(settings.sizes), checkpoint, names, device, dtype)
    rope = model.config
    model.rope = HeliosRotaryPosEmbed(rope.rope_dim, rope.rope_theta).to(device)  # its buffers are in no checkpoint
    return model


def pooled_packing(weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Packing convolutions that give what the patch embedding gives of the average over 1, 2 and 4 frames, rows and
    columns (diffusers_helper/models/hunyuan_video_packed.py ``initialize_weight_from_another_conv3d``).

    Args:
        weight: [D, C, t, h, w] of the patch embedding.
        bias: [D].
    """
    made = {}
    for part, times in PACKING.items():
        wide = repeat(weight, "d c t h w -> d c (t a) (h b) (w e)", a=times, b=times, e=times)
        made[f"{part}.weight"] = wide / times**3
        made[f"{part}.bias"] = bias.clone()
    return made


def _refuse_pyramid(source: str, *, download: bool) -> None:
    """Helios-Mid and -Distilled have the tensors of Helios-Base; only the pipeline that their folder names differs."""
    path = locate(source, download=download)
    for index in (path / "model_index.json", path.parent / "model_index.json"):
        if index.is_file():
            with refusing(CheckpointError, f"{index} is damaged"):
                pipeline = json.loads(index.read_text())["_class_name"]
            if pipeline == "HeliosPyramidPipeline":
                raise CheckpointError(
                    f"{index.parent} is a Helios of pyramid stages (Mid or Distilled), which enlarge a section while "
                    "it is denoised: only Helios-Base has sections of one size"
                )
            return


def _pooled(checkpoint: Checkpoint, names: dict[str, str]) -> tuple[Checkpoint, dict[str, str]]:
    """The checkpoint with packing convolutions beside its own tensors."""
    embedding = [checkpoint.tensor(names[f"patch_embedding.{name}"]) for name in ("weight", "bias")]
    made = pooled_packing(*embedding)
    shapes = {name: checkpoint.shape(name) for name in checkpoint}
    shapes.update({name: tuple(tensor.shape) for name, tensor in made.items()})

    def read(name: str) -> Tensor:
        return made[name] if name in made else checkpoint.tensor(name)

    return Checkpoint(checkpoint.path, shapes, read, checkpoint.config), {**names, **{name: name for name in made}}


def _live_sizes(model: Any) -> dict[str, object]:
    if not isinstance(model, HeliosTransformer3DModel):
        raise AttributeError("it is no HeliosTransformer3DModel (of a peft model, give get_base_model())")
    if not (model.config.has_multi_term_memory_patch and model.config.zero_history_timestep):
        raise AttributeError("it has no packing convolutions, or gives its history the noisy timestep")
    return {
        "width": model.patch_embedding.out_channels,
        "number of blocks": len(model.blocks),
        "number of heads": model.config.num_attention_heads,
    }


def _given(weights: WeightsSettings, part: str) -> str:
    source: str | None = getattr(weights, part)
    if source is None:
        raise CheckpointError(f"weights.{part} is not given: FramePack on Wan needs base, vae and text_encoder")
    return source
