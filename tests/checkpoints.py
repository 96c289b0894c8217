"""Tiny checkpoints in the layouts of the official files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vace_adapt.embedded.tiny import tiny_text_encoder
from vace_adapt.weights.wan_keys import to_diffusers

BLOCK = (
    "modulation",
    *(f"{a}.{p}.{w}" for a in ("self_attn", "cross_attn") for p in "qkvo" for w in ("weight", "bias")),
    *(f"{a}.norm_{p}.weight" for a in ("self_attn", "cross_attn") for p in "qk"),
    *(f"norm3.{w}" for w in ("weight", "bias")),
    *(f"ffn.{i}.{w}" for i in (0, 2) for w in ("weight", "bias")),
)
"""The 27 tensors of a Wan block, as the original repository names them (Wan-Video/Wan2.1 wan/modules/model.py)."""

TOP = (
    *(f"patch_embedding.{w}" for w in ("weight", "bias")),
    *(f"{e}_embedding.{i}.{w}" for e in ("text", "time") for i in (0, 2) for w in ("weight", "bias")),
    *(f"time_projection.1.{w}" for w in ("weight", "bias")),
    "head.modulation",
    *(f"head.head.{w}" for w in ("weight", "bias")),
)
"""The 15 tensors outside the blocks."""


def base_names(layers: int) -> list[str]:
    """Every tensor of a Wan2.1 model under its original name."""
    return [*TOP, *(f"blocks.{i}.{name}" for i in range(layers) for name in BLOCK)]


def vace_names(blocks: int) -> list[str]:
    """Every tensor VACE adds, under its original name (ali-vilab/VACE vace/models/wan/modules/model.py)."""
    names = [f"vace_patch_embedding.{w}" for w in ("weight", "bias")]
    for i in range(blocks):
        extra = ("before_proj", "after_proj") if i == 0 else ("after_proj",)
        names += [
            f"vace_blocks.{i}.{name}" for name in (*BLOCK, *(f"{p}.{w}" for p in extra for w in ("weight", "bias")))
        ]
    return names


def original(state: Mapping[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """A diffusers-layout state dict under original names."""
    return {name: state[to_diffusers(name)].clone() for name in names}


def save_sharded(state: Mapping[str, Tensor], folder: Path, shards: int = 3) -> Path:
    """Write shards and their index; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(state)
    weight_map = {}
    for shard in range(shards):
        file = f"diffusion_pytorch_model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: state[name] for name in names[shard::shards]}
        save_file(part, folder / file)
        weight_map.update(dict.fromkeys(part, file))
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def original_vae(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A full-depth `AutoencoderKLWan` state dict under the original names, found by asking diffusers for each
    candidate."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    found = {}
    for name in _vae_candidates():
        (new,) = convert_wan_vae_to_diffusers({name: None})
        if new in state and new not in found.values():
            found[name] = new
    return {old: state[new].clone() for old, new in found.items()}


def _vae_candidates() -> list[str]:
    ends = ("weight", "bias")
    names = [f"{conv}.{end}" for conv in ("conv1", "conv2") for end in ends]
    for side, stack in (("encoder", "downsamples"), ("decoder", "upsamples")):
        names += [f"{side}.conv1.{end}" for end in ends]
        names += [f"{side}.head.0.gamma", *(f"{side}.head.2.{end}" for end in ends)]
        for i in (0, 2):
            names += _residual(f"{side}.middle.{i}")
        names += [f"{side}.middle.1.norm.gamma"]
        names += [f"{side}.middle.1.{p}.{end}" for p in ("to_qkv", "proj") for end in ends]
        for i in range(16):
            names += _residual(f"{side}.{stack}.{i}")
            names += [f"{side}.{stack}.{i}.{p}.{end}" for p in ("resample.1", "time_conv", "shortcut") for end in ends]
    return names


def _residual(stem: str) -> list[str]:
    gammas = [f"{stem}.residual.{i}.gamma" for i in (0, 3)]
    return gammas + [f"{stem}.residual.{i}.{end}" for i in (2, 6) for end in ("weight", "bias")]


def half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}


def save_text_encoder(folder: Path) -> None:
    """The tiny text encoder as a diffusers pipeline folder has it."""
    text = tiny_text_encoder(0)
    text.model.save_pretrained(folder / "text_encoder")
    text.tokenizer.save_pretrained(folder / "tokenizer")
