"""Stage ``export``: what was trained, in half precision, in the layouts of the official checkpoints, with a model card.

``vae/``, ``text_encoder/``, ``tokenizer/`` and ``transformer/`` are a diffusers folder of WanVACE (bidirectional base
and context blocks); a student is one file for the plugin whose pipeline it belongs to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
from safetensors.torch import save_file
from text import word_tokenizer
from torch import Tensor, nn

from vace_adapt.context.blocks import ContextPath
from vace_adapt.embedded.family import FAMILY, FAMILY_CONTROL_LAYERS
from vace_adapt.models.causal_wan import CausalWan


def export_vae(vae: AutoencoderKLWan, statistics: tuple[Tensor, Tensor], folder: Path) -> None:
    """``vae/`` with the statistics of its latents in the config."""
    mean, deviation = (each.tolist() for each in statistics)
    vae.register_to_config(latents_mean=mean, latents_std=deviation)
    vae.half().save_pretrained(folder / "vae")


def export_text_encoder(encoder: nn.Module, folder: Path) -> None:
    """``text_encoder/`` and ``tokenizer/``."""
    tied = {"encoder.embed_tokens.weight"}
    target = folder / "text_encoder"
    target.mkdir(parents=True, exist_ok=True)
    write(target / "model.safetensors", {k: v for k, v in encoder.state_dict().items() if k not in tied})
    encoder.config.save_pretrained(target)
    word_tokenizer().save_pretrained(folder / "tokenizer")


def export_transformer(base: CausalWan, path: ContextPath, folder: Path) -> None:
    """``transformer/``: diffusers' WanVACE, base and context blocks together."""
    model = WanVACETransformer3DModel(
        patch_size=FAMILY.patch,
        num_attention_heads=FAMILY.heads,
        attention_head_dim=FAMILY.head_dim,
        in_channels=FAMILY.latent_channels,
        out_channels=FAMILY.latent_channels,
        text_dim=FAMILY.text_dim,
        freq_dim=FAMILY.freq_dim,
        ffn_dim=FAMILY.ffn_dim,
        num_layers=FAMILY.layers,
        cross_attn_norm=FAMILY.cross_attn_norm,
        eps=FAMILY.eps,
        vace_layers=list(FAMILY_CONTROL_LAYERS),
        vace_in_channels=FAMILY.control_channels,
    )
    model.load_state_dict({**base.state_dict(), **path.state_dict()})
    model.half().save_pretrained(folder / "transformer")


def export_student(base: nn.Module, trained: nn.Module, share: float, file: Path) -> None:
    """One file with the keys of diffusers' Wan transformer, or of Helios where they are that class.

    Args:
        base, trained, share: the student lies `between` them.
        file: written anew.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, between(base, trained, share))


def between(begin: nn.Module, end: nn.Module, share: float) -> dict[str, Tensor]:
    """Weights on the way from one model to what it was trained to, which keep more of what the first one answers to.

    Wortsman et al., Robust fine-tuning of zero-shot models, 2022.

    Args:
        begin, end: of one class.
        share: of the way, in [0, 1].
    """
    first, last = begin.state_dict(), end.state_dict()
    return {name: first[name].lerp(last[name], share) for name in first}


def write(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Half precision, sorted by name, so that equal weights are equal files."""
    save_file({name: tensors[name].detach().half().contiguous() for name in sorted(tensors)}, file, {"format": "pt"})


def write_card(folder: Path, file: Path, files: Mapping[str, Path], stages: Mapping[str, str], data: str) -> None:
    """A page with data, steps, times, losses and hashes, from the records of the stages alone."""
    rows = [
        _stage(name, what, json.loads((folder / name / "losses.json").read_text())) for name, what in stages.items()
    ]
    hashes = [
        f"| {name} | {path.stat().st_size / 1e6:.2f} | `{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}` |"
        for name, path in files.items()
    ]
    file.write_text(
        "# The embedded family\n\n"
        "Made by `python recipes/embedded/train.py all`; this page is written by its last stage. Toy models of a toy "
        "world (`vace_adapt.embedded.world`): they are here to be measured and to show control, not for pictures.\n\n"
        f"Data: {data}. Device: {_device()}.\n\n"
        "| stage | what | steps | minutes | losses (mean of the last 100 steps) |\n| --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n\n| file | MB | sha256 begins |\n| --- | --- | --- |\n"
        + "\n".join(hashes)
        + "\n"
    )


def _stage(name: str, what: str, record: dict[str, Any]) -> str:
    losses = ", ".join(
        f"{key} {sum(values[-100:]) / len(values[-100:]):.4f}" for key, values in record["losses"].items()
    )
    return f"| {name} | {what} | {record['step']} | {record['seconds'] / 60:.0f} | {losses} |"


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
