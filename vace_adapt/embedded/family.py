"""Sizes of the embedded family: tiny checkpoints that were really trained, in the layouts of the official ones."""

from __future__ import annotations

from vace_adapt.contract import Backbone

FAMILY = Backbone(dim=128, ffn_dim=512, heads=4, layers=6, text_dim=64, text_len=32, freq_dim=64)
"""Sizes of the bidirectional base and of every student of it."""

FAMILY_CONTROL_LAYERS = (0, 2, 4)
"""Base blocks that receive a hint."""
