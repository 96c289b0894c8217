"""Silence for what libraries report while they are imported."""

from __future__ import annotations

import logging

CHATTY = ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer")
"""Loggers that report at import what concerns nobody here."""


def quiet_imports() -> None:
    """Let only errors of these loggers through; before torch is imported."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
