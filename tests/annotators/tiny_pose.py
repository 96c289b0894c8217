"""Tiny random models of the real classes for ``pose``, saved in the layout of the official repositories on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessorPil,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
)
from transformers.models.vitpose.image_processing_pil_vitpose import VitPoseImageProcessorPil


def save_vitpose(folder: Path, *, experts: int = 1, labels: int = 17) -> Path:
    """As ``usyd-community/vitpose-base-simple``; with `experts` as ``usyd-community/vitpose-plus-base``."""
    backbone = VitPoseBackboneConfig(
        image_size=[64, 48], patch_size=[16, 16], hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        mlp_ratio=2, num_experts=experts, part_features=4 if experts > 1 else 0, out_indices=[2],
    )  # fmt: skip
    config = VitPoseConfig(backbone_config=backbone, num_labels=labels, use_simple_decoder=True)
    _save(VitPoseForPoseEstimation, config, folder)
    VitPoseImageProcessorPil(size={"height": 64, "width": 48}).save_pretrained(folder)
    return folder


def save_rt_detr(folder: Path, *, labels: tuple[str, ...] = ("person", "ball"), version: int = 1) -> Path:
    """As ``PekingU/rtdetr_r50vd_coco_o365``, or ``PekingU/rtdetr_v2_r50vd``."""
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    kind, model = ((RTDetrConfig, RTDetrForObjectDetection), (RTDetrV2Config, RTDetrV2ForObjectDetection))[version - 1]
    config = kind(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 16, 16], encoder_ffn_dim=16,
        encoder_attention_heads=2, d_model=16, num_queries=12, decoder_in_channels=[16, 16, 16], decoder_ffn_dim=16,
        decoder_layers=2, decoder_attention_heads=2, id2label=dict(enumerate(labels)),
    )  # fmt: skip
    _save(model, config, folder)
    RTDetrImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def _save(kind: type[PreTrainedModel], config: PreTrainedConfig, folder: Path, **biases: Any) -> None:
    """A model of seeded random weights, large enough for an answer to depend on the picture."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config)
        for tensor in model.parameters():
            if tensor.ndim > 1:
                tensor.data.normal_(std=0.2)
    model.save_pretrained(folder)
