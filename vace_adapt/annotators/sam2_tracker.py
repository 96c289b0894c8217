"""SAM 2 frame by frame: objects shown in one frame are followed in the frames after it, in bounded memory.

`transformers.Sam2VideoProcessor` is not used: its image processor needs torchvision. What it does to a frame and to a
prompt is done here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BaseImageProcessor, Sam2VideoInferenceSession, Sam2VideoModel

from vace_adapt.annotators.hub import load_model, weights_folder
from vace_adapt.contract import Canvas
from vace_adapt.errors import CheckpointError
from vace_adapt.weights.foreign import refusing

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

ON_OBJECT, TOP_LEFT, BOTTOM_RIGHT = 1, 2, 3
"""SAM 2's labels of points."""

Prompt: TypeAlias = "tuple[float, ...] | Array"
"""One object: a point (x, y) or a box (left, top, right, bottom) as fractions of the frame, or a mask, bool [H, W]."""


class Sam2Tracker:
    """Follows objects from the frame where they are shown.

    The session of transformers keeps every frame and every output. Here only what the next frame can look at stays:
    the frame with the prompts, and of the newest ``max(num_maskmem, max_object_pointers_in_encoder) - 1`` frames (15)
    memory and object pointers. Masks are the same, bit for bit.

    Args:
        model: a `Sam2VideoModel`.
        mean, std: of the pixels it was trained on, three each, in 0..1.
    """

    def __init__(self, model: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        self._model = model
        self._mean = torch.tensor(mean, device=model.device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=model.device).view(1, 3, 1, 1)
        self._reach = max(model.config.num_maskmem, model.config.max_object_pointers_in_encoder) - 1
        self._session: Any = None
        self._count = 0

    def start(self, prompts: Sequence[Prompt]) -> None:
        """Forget everything; `prompts`, one for each object, belong to the next frame."""
        device, dtype = self._model.device, self._model.dtype
        self._session = Sam2VideoInferenceSession(
            inference_device=device, inference_state_device=device, video_storage_device=device, dtype=dtype
        )
        self._count = 0
        for number, prompt in enumerate(prompts):
            index = self._session.obj_id_to_idx(number)
            if isinstance(prompt, tuple):
                self._session.add_point_inputs(index, 0, self._points(prompt))
            else:
                self._session.add_mask_inputs(index, 0, self._mask(prompt))
        self._session.obj_with_new_inputs = list(self._session.obj_ids)

    @torch.inference_mode()
    def step(self, frame: Array) -> Array:
        """Where the objects are in the next frame, all together.

        Args:
            frame: uint8 [H, W, 3].

        Returns:
            bool [H, W].
        """
        found = self._model(inference_session=self._session, frame=self._pixels(frame), frame_idx=self._count)
        self._count += 1
        self._forget()
        logits = F.interpolate(found.pred_masks.float(), size=frame.shape[:2], mode="bilinear", align_corners=False)
        return (logits > 0).flatten(0, 1).any(0).cpu().numpy()

    def _forget(self) -> None:
        session, oldest = self._session, self._count - self._reach
        session.processed_frames.clear()
        for tracked in session.frames_tracked_per_obj.values():
            _drop_before(tracked, oldest)
        for outputs in session.output_dict_per_obj.values():
            _drop_before(outputs["non_cond_frame_outputs"], oldest)
            for output in (*outputs["cond_frame_outputs"].values(), *outputs["non_cond_frame_outputs"].values()):
                output.pop("pred_masks", None)
                output.pop("high_res_masks", None)

    def _pixels(self, frame: Array) -> Tensor:
        """[1, 3, S, S]: scaled in whole gray levels to SAM 2's square, as torchvision and Pillow do, and normalised."""
        side = self._model.config.image_size
        pixels = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None]
        pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        return ((pixels.to(self._model.device) / 255 - self._mean) / self._std).to(self._model.dtype)

    def _points(self, prompt: tuple[float, ...]) -> dict[str, Tensor]:
        labels = [ON_OBJECT] if len(prompt) == 2 else [TOP_LEFT, BOTTOM_RIGHT]
        return {
            "point_coords": torch.tensor(prompt).view(1, 1, -1, 2) * self._model.config.image_size,
            "point_labels": torch.tensor(labels, dtype=torch.int32).view(1, 1, -1),
        }

    def _mask(self, mask: Array) -> Tensor:
        side = self._model.config.image_size
        pixels = torch.from_numpy(mask).float()[None, None]
        pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        return (pixels >= 0.5).float()


def load_tracker(annotator: str, source: str, canvas: Canvas, dtype: str, setting: str = "weights") -> Sam2Tracker:
    """A tracker with weights.

    Args:
        annotator, source, setting: as in `weights_folder`.
        canvas: for device and download.
        dtype: what the model computes in.

    Raises:
        CheckpointError: as `weights_folder` and `load_model`, or the folder does not say how pixels are normalised.
    """
    folder = weights_folder(annotator, source, download=canvas.download, setting=setting)
    model = load_model(annotator, folder, Sam2VideoModel, ("sam2_video",), canvas.device, dtype)
    with refusing(CheckpointError, f"annotator {annotator!r}: {folder} holds no image processor"):
        processor, _ = BaseImageProcessor.get_image_processor_dict(folder, local_files_only=True)
        return Sam2Tracker(model, processor["image_mean"], processor["image_std"])


def _drop_before(kept: dict[int, Any], oldest: int) -> None:
    for number in [number for number in kept if number < oldest]:
        del kept[number]
