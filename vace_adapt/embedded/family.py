"""The embedded family: tiny checkpoints that were really trained, in the layouts of the official ones.

A bidirectional base with VACE's context blocks, the autoencoder and the text encoder lie here; the few-step student of
that base, which streams, ships with the plugin whose pipeline it belongs to (`vace_embedded_base`). The model card
beside the files says how they were made.
"""

from __future__ import annotations

from pathlib import Path

from vace_adapt.contract import Backbone, WeightsSettings

FAMILY = Backbone(dim=128, ffn_dim=512, heads=4, layers=6, text_dim=64, text_len=32, freq_dim=64)
"""Sizes of the bidirectional base and of every student of it."""

FAMILY_CONTROL_LAYERS = (0, 2, 4)
"""Base blocks that receive a hint."""

FAMILY_FOLDER = Path(__file__).parent / "weights"
"""A diffusers folder of WanVACE: ``vae/``, ``text_encoder/``, ``tokenizer/``, ``transformer/``."""

FAMILY_SIZE = 64
"""Height and width of everything the family was trained on, in pixels."""


def family_weights(base: str, *, download: bool) -> WeightsSettings:
    """The family around a student.

    Args:
        base: file of the student.
        download: whether annotators may fetch theirs.
    """
    return WeightsSettings(
        base=base,
        download=download,
        vae=str(FAMILY_FOLDER),
        text_encoder=str(FAMILY_FOLDER),
        control=str(FAMILY_FOLDER),
    )
