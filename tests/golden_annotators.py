"""Inputs and outputs of VACE's own annotators, from ``tests/golden/annotators``."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import load_file
from support import ROOT


def golden(case: str) -> dict[str, np.ndarray]:
    """``input.*`` and ``output.*`` of a case."""
    return load_file(ROOT / "tests" / "golden" / "annotators" / f"{case}.safetensors")
