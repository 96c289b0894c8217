"""Grounding DINO: the boxes of what a text names, in one picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModelForZeroShotObjectDetection, BertTokenizer, GroundingDinoImageProcessorPil

from vace_adapt.annotators.hub import load_model, load_part, weights_folder
from vace_adapt.contract import Canvas
from vace_adapt.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

Detector = Callable[["Array"], tuple["Array", "Array"]]
"""uint8 [H, W, 3] to boxes, float32 [N, 4] as fractions of the frame and inside it, and scores, float32 [N], best
first."""


def load_detector(annotator: str, source: str, canvas: Canvas, text: str, dtype: str) -> Detector:
    """A detector of what `text` names.

    Pillow scales the pictures; `transformers.GroundingDinoProcessor` would choose by whether torchvision is installed.
    Scores and boxes are those of its ``post_process_grounded_object_detection``.

    Args:
        annotator, source: as in `weights_folder`.
        canvas: for device and download.
        text: as `grounding_text` writes it.
        dtype: what the model computes in.

    Raises:
        CheckpointError: as `weights_folder`, `load_model` and `load_part`, or the tokenizer is of another model.
        InputError: the text is longer than the model takes.
    """
    folder = weights_folder(annotator, source, download=canvas.download)
    kind = AutoModelForZeroShotObjectDetection
    model = load_model(annotator, folder, kind, ("grounding-dino",), canvas.device, dtype)
    processor = load_part(annotator, folder, GroundingDinoImageProcessorPil)
    words = _tokens(annotator, folder, model.config, text).to(canvas.device)

    @torch.inference_mode()
    def detect(frame: Array) -> tuple[Array, Array]:
        picture = processor(images=frame, return_tensors="pt").to(canvas.device)
        picture["pixel_values"] = picture["pixel_values"].to(model.dtype)
        found = model(**picture, **words)
        scores = found.logits[0].float().sigmoid().amax(dim=1).cpu().numpy()
        order = np.argsort(-scores, kind="stable")
        return _corners(found.pred_boxes[0].float().cpu().numpy())[order], scores[order]

    return detect


def grounding_text(text: str) -> str:
    """A text as Grounding DINO was trained on it: lower case, a full stop at the end."""
    text = text.strip().lower()
    return text if text.endswith(".") else f"{text}."


def distinct(boxes: Array, overlap: float) -> Array:
    """Non-maximum suppression: boxes that overlap a better one are left out.

    Args:
        boxes: [N, 4] left, top, right, bottom, best first.
        overlap: intersection over union above which two boxes are one object.

    Returns:
        [M, 4], best first.
    """
    kept: list[Any] = []
    for box in boxes:
        if all(_intersection_over_union(box, better) <= overlap for better in kept):
            kept.append(box)
    return np.array(kept, boxes.dtype).reshape(-1, 4)


def _tokens(annotator: str, folder: Path, config: Any, text: str) -> Any:
    tokenizer = load_part(annotator, folder, BertTokenizer)
    vocabulary = config.text_config.vocab_size
    if len(tokenizer) != vocabulary:  # transformers makes up an empty one where its files are missing
        raise CheckpointError(
            f"annotator {annotator!r}: the tokenizer in {folder} has {len(tokenizer)} words, its model {vocabulary}"
        )
    words = tokenizer(text, return_tensors="pt", return_token_type_ids=True)
    if words.input_ids.shape[1] > config.max_text_len:
        came = words.input_ids.shape[1]
        raise InputError(f"annotator {annotator!r}: the text has {came} tokens, the model takes {config.max_text_len}")
    return words


def _corners(boxes: Array) -> Array:
    """[N, 4] centre x, centre y, width, height to left, top, right, bottom, cut at the frame's edges."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1).clip(0, 1)


def _intersection_over_union(a: Array, b: Array) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(sides.clip(0).prod())
    union = float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - common
    return common / union if union > 0 else 0.0
