"""Tiny random models of the real classes, saved in the layout of the official repositories on the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertTokenizer,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessorPil,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    Sam2VideoConfig,
    Sam2VideoModel,
    SwinConfig,
)
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig, Sam2VisionConfig
from transformers.models.sam2_video.configuration_sam2_video import (
    Sam2VideoMaskDecoderConfig,
    Sam2VideoPromptEncoderConfig,
)

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""Of ImageNet."""

SAM2_SIZE = 128
"""Pixels of the tiny SAM 2's square input; the released ones have 1024."""

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "a", "red", "ball", "cat", "on", "mat"]


def save_depth_anything(folder: Path, **changes: Any) -> Path:
    """As ``depth-anything/Depth-Anything-V2-Small-hf``."""
    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=70, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8, head_hidden_size=8, **changes,
    )  # fmt: skip
    _save(DepthAnythingForDepthEstimation, config, folder)
    DPTImageProcessorPil(
        size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14, image_mean=MEAN, image_std=STD
    ).save_pretrained(folder)
    return folder


def save_dpt(folder: Path) -> Path:
    """As ``Intel/dpt-large``: MiDaS."""
    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=64, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=8,
    )  # fmt: skip
    _save(DPTForDepthEstimation, config, folder)
    DPTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def save_sam2(folder: Path, **changes: Any) -> Path:
    """As ``facebook/sam2.1-hiera-tiny``; it sees the object in every frame. Its processor cannot be made here, as it needs
    torchvision: only its files.
    """
    levels = [SAM2_SIZE // 4, SAM2_SIZE // 8, SAM2_SIZE // 16]
    backbone = Sam2HieraDetConfig(
        hidden_size=8, image_size=[SAM2_SIZE, SAM2_SIZE], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[8, 4, 4, 2], global_attention_blocks=[3],
    )  # fmt: skip
    config = Sam2VideoConfig(
        vision_config=Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=128,
            backbone_feature_sizes=[[size, size] for size in levels],
        ),
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=128, image_size=SAM2_SIZE, mask_input_channels=4),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=128, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16
        ),
        image_size=SAM2_SIZE, memory_attention_hidden_size=128, memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=128, memory_attention_rope_feat_sizes=[levels[2], levels[2]],
        memory_encoder_hidden_size=128, memory_encoder_output_channels=64, mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=32, **changes,
    )  # fmt: skip
    _save(Sam2VideoModel, config, folder, {"mask_decoder.pred_obj_score_head.proj_out.bias": 20.0})
    _write(folder / "preprocessor_config.json", _sam2_processor())
    _write(folder / "processor_config.json", {"processor_class": "Sam2VideoProcessor", "target_size": SAM2_SIZE})
    return folder


def save_grounding_dino(folder: Path, **changes: Any) -> Path:
    """As ``IDEA-Research/grounding-dino-tiny``, with a vocabulary of `WORDS`."""
    backbone = SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_indices=[2, 3, 4]
    )
    text = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=text, num_queries=12, encoder_layers=1, decoder_layers=2, d_model=32,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=4, decoder_attention_heads=4, **changes,
    )  # fmt: skip
    _save(GroundingDinoForObjectDetection, config, folder)
    GroundingDinoImageProcessorPil(size={"shortest_edge": 128, "longest_edge": 192}).save_pretrained(folder)
    BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads only wait for each other in models this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scene(count: int, height: int, width: int) -> np.ndarray[Any, Any]:
    """A light square that moves over a colour gradient: uint8 [T, H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    ground = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], axis=2)
    frames = np.repeat(ground[None].astype(np.uint8), count, axis=0)
    for i, frame in enumerate(frames):
        left, top = 2 + 2 * i % (width // 2), height // 4
        frame[top : top + height // 3, left : left + width // 4] = (250, 240, 60)
    return frames


def cut(annotator: Any, frames: np.ndarray[Any, Any], counts: list[int], start: int = 0) -> np.ndarray[Any, Any]:
    """The pictures of frames that come in calls of `counts` and a last call of the rest."""
    made, at = [], 0
    for count in (*counts, len(frames)):
        part = frames[at : at + count]
        if len(part):
            made.append(annotator(part, start + at))
        at += count
    return np.concatenate(made)


def held(session: Any) -> tuple[int, int]:
    """Bytes and number of the tensors that a `Sam2VideoInferenceSession` holds."""
    found: dict[int, int] = {}
    todo = [vars(session), vars(session.cache)]
    while todo:
        item = todo.pop()
        if isinstance(item, torch.Tensor):
            found[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
        elif isinstance(item, dict):
            todo += item.values()
        elif isinstance(item, (list, tuple)):
            todo += item
    return sum(found.values()), len(found)


def _save(kind: Any, config: Any, folder: Path, biases: dict[str, float] | None = None) -> None:
    """A model of seeded random weights, large enough for pictures with contrast."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config)
        for tensor in model.parameters():
            if tensor.ndim > 1:
                tensor.data.normal_(std=0.2)
        for name, value in (biases or {}).items():
            model.get_parameter(name).data.fill_(value)
    model.save_pretrained(folder)


def _sam2_processor() -> dict[str, Any]:
    return {
        "image_processor_type": "Sam2ImageProcessorFast",
        "processor_class": "Sam2VideoProcessor",
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "mask_size": {"height": SAM2_SIZE // 4, "width": SAM2_SIZE // 4},
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"height": SAM2_SIZE, "width": SAM2_SIZE},
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))
