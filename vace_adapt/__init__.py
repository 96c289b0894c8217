"""The controls of VACE for streaming video diffusion models.

>>> from vace_adapt import load_pipeline
>>> pipe = load_pipeline("longlive")
>>> with pipe.stream("a red ball", height=64, width=96, num_frames=21) as stream:
...     for chunk in stream:
...         print(tuple(chunk.frames.shape))
(1, 9, 64, 96, 3)
(1, 12, 64, 96, 3)

Names are loaded when first used, so importing the package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vace_adapt.composing import MaskSettings, Outpaint, Structure
    from vace_adapt.conditioning.references import Reference
    from vace_adapt.contract import ChunkReport, PipelineInfo, WeightsSettings
    from vace_adapt.controls import ControlSettings, Reanchor
    from vace_adapt.errors import VaceAdaptError
    from vace_adapt.scale import HintScale, Schedule
    from vace_adapt.streaming.chunk import StreamedChunk
    from vace_adapt.streaming.load import load_pipeline
    from vace_adapt.streaming.pipeline import Pipeline
    from vace_adapt.streaming.session import Session

__version__ = "0.1.0"

_HOMES = {
    "ChunkReport": "vace_adapt.contract",
    "PipelineInfo": "vace_adapt.contract",
    "WeightsSettings": "vace_adapt.contract",
    "ControlSettings": "vace_adapt.controls",
    "HintScale": "vace_adapt.scale",
    "MaskSettings": "vace_adapt.composing",
    "Outpaint": "vace_adapt.composing",
    "Reanchor": "vace_adapt.controls",
    "Reference": "vace_adapt.conditioning.references",
    "Schedule": "vace_adapt.scale",
    "Structure": "vace_adapt.composing",
    "VaceAdaptError": "vace_adapt.errors",
    "load_pipeline": "vace_adapt.streaming.load",
    "Pipeline": "vace_adapt.streaming.pipeline",
    "Session": "vace_adapt.streaming.session",
    "StreamedChunk": "vace_adapt.streaming.chunk",
}

__all__ = [
    "ChunkReport",
    "ControlSettings",
    "HintScale",
    "MaskSettings",
    "Outpaint",
    "Pipeline",
    "PipelineInfo",
    "Reanchor",
    "Reference",
    "Schedule",
    "Session",
    "StreamedChunk",
    "Structure",
    "VaceAdaptError",
    "WeightsSettings",
    "load_pipeline",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
