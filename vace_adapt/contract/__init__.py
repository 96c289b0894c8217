"""The frozen types that cross the hooks: what a plugin declares, what it receives, what it returns.

Importing them does not import torch, so that ``vace-adapt list`` and ``show`` stay fast and work without it.
"""

from __future__ import annotations

from vace_adapt.contract.annotator import Annotator, AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.contract.causal import WAN_1_3B, CausalSettings, LoraSettings
from vace_adapt.contract.chunks import CacheLayout, CacheOps, ChunkShapes, ReferenceRoom
from vace_adapt.contract.declaration import (
    CAPABILITIES,
    Backbone,
    Capability,
    EmbeddedBase,
    Frozen,
    Injection,
    NativeVideo,
    PipelineInfo,
    PipelineSettings,
    Support,
    WeightsSettings,
)
from vace_adapt.contract.sites import (
    Attend,
    BlockInputs,
    BlockMap,
    BlockSite,
    ComputesHints,
    Hints,
    HintSource,
    Level,
    SlotReferences,
)
from vace_adapt.contract.stream import (
    Chunk,
    ChunkReport,
    Comparison,
    PipelineParts,
    SourceVideo,
    Stream,
    TextEncoder,
)

__all__ = [
    "CAPABILITIES",
    "WAN_1_3B",
    "Annotator",
    "AnnotatorInfo",
    "AnnotatorSettings",
    "Attend",
    "Backbone",
    "BlockInputs",
    "BlockMap",
    "BlockSite",
    "CacheLayout",
    "CacheOps",
    "Canvas",
    "Capability",
    "CausalSettings",
    "Chunk",
    "ChunkReport",
    "ChunkShapes",
    "Comparison",
    "ComputesHints",
    "EmbeddedBase",
    "Frozen",
    "HintSource",
    "Hints",
    "Injection",
    "Level",
    "LoraSettings",
    "NativeVideo",
    "PipelineInfo",
    "PipelineParts",
    "PipelineSettings",
    "ReferenceRoom",
    "SlotReferences",
    "SourceVideo",
    "Stream",
    "Support",
    "TextEncoder",
    "WeightsSettings",
]
