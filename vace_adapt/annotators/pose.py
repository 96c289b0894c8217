"""People as skeletons: boxes by RT-DETR, joints by ViTPose, drawn as VACE draws them.

Xu et al., ViTPose: Simple Vision Transformer Baselines for Human Pose Estimation (NeurIPS 2022); Zhao et al., DETRs
Beat YOLOs on Real-time Object Detection (CVPR 2024). VACE has YOLOX and DWPose there, which also find hands and faces.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from vace_adapt.annotators.each_frame import EachFrame
from vace_adapt.annotators.keypoints import Person, from_coco, without_strays
from vace_adapt.annotators.skeleton import SkeletonSettings, people_picture
from vace_adapt.contract import AnnotatorInfo, Canvas
from vace_adapt.errors import CheckpointError
from vace_adapt.hookspecs import HOOK_API, hookimpl

if TYPE_CHECKING:
    from vace_adapt.contract.annotator import Array

    FindBoxes = Callable[[Array], Array]  # uint8 [H, W, 3] to float32 [N, 4]: left, top, width, height in pixels
    FindJoints = Callable[[Array, Array], list[Person]]  # a frame and its boxes to one person for each box

WEIGHTS = "usyd-community/vitpose-base-simple"
DETECTOR = "PekingU/rtdetr_r50vd_coco_o365"
DETECTOR_TYPES = ("rt_detr", "rt_detr_v2")
JOINTS = 17
"""Of a person in COCO."""


class PoseSettings(SkeletonSettings):
    """Options of ``pose``.

    Attributes:
        weights: ViTPose's folder or hub id, as ``usyd-community/vitpose-plus-large``.
        detector: RT-DETR's folder or hub id, as ``PekingU/rtdetr_v2_r18vd``; ``none`` takes the whole frame as the box
            of one person.
        detector_threshold: score above which a box of a person counts; VACE's is the default.
        dtype: what the models compute in.
    """

    weights: Annotated[str, Field(min_length=1)] = WEIGHTS
    detector: Annotated[str, Field(min_length=1)] = DETECTOR
    detector_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.3
    dtype: Literal["float32", "bfloat16"] = "float32"


@hookimpl
def vace_annotator() -> AnnotatorInfo:
    return AnnotatorInfo(
        name="pose",
        hook_api=HOOK_API,
        summary="skeletons of people by ViTPose, on black; bodies only",
        makes="control",
        settings=PoseSettings,
        make=_make,
        weights=WEIGHTS,
        extra="pose",
    )


def _make(settings: PoseSettings, canvas: Canvas) -> EachFrame:
    find_boxes = _whole_frame if settings.detector == "none" else _detector(settings, canvas)
    find_joints = _estimator(settings, canvas)

    def picture(frame: Array) -> Array:
        boxes = find_boxes(frame)
        people = find_joints(frame, boxes) if len(boxes) else []
        return people_picture(people, canvas.height, canvas.width, settings)

    return EachFrame(picture)


def _whole_frame(frame: Array) -> Array:
    return np.array([[0, 0, frame.shape[1], frame.shape[0]]], np.float32)


def _detector(settings: PoseSettings, canvas: Canvas) -> FindBoxes:
    """The boxes of people, best first."""
    import torch
    from transformers import AutoModelForObjectDetection, RTDetrImageProcessorPil

    from vace_adapt.annotators.hub import load_model, load_part, weights_folder

    folder = weights_folder("pose", settings.detector, download=canvas.download, setting="detector")
    model = load_model("pose", folder, AutoModelForObjectDetection, DETECTOR_TYPES, canvas.device, settings.dtype)
    processor = load_part("pose", folder, RTDetrImageProcessorPil)
    people = [label for label, name in model.config.id2label.items() if name.lower() == "person"]
    if not people:
        raise CheckpointError(f"annotator 'pose': {folder} finds no people: none of its labels is 'person'")

    @torch.inference_mode()
    def find_boxes(frame: Array) -> Array:
        pixels = processor(images=frame, return_tensors="pt").pixel_values
        outputs = model(pixels.to(canvas.device, model.dtype))
        outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
        found = processor.post_process_object_detection(
            outputs, threshold=settings.detector_threshold, target_sizes=[frame.shape[:2]]
        )[0]
        boxes = found["boxes"][found["labels"] == people[0]].cpu().numpy()
        boxes[:, 2:] -= boxes[:, :2]
        return np.asarray(boxes[(boxes[:, 2:] >= 1).all(axis=1)])

    return find_boxes


def _estimator(settings: PoseSettings, canvas: Canvas) -> FindJoints:
    import_module("scipy.ndimage")  # without it the processor fails only at the first frame
    import torch
    from transformers import VitPoseForPoseEstimation
    from transformers.models.vitpose.image_processing_pil_vitpose import VitPoseImageProcessorPil

    from vace_adapt.annotators.hub import load_model, load_part, weights_folder

    folder = weights_folder("pose", settings.weights, download=canvas.download)
    model = load_model("pose", folder, VitPoseForPoseEstimation, ("vitpose",), canvas.device, settings.dtype)
    processor = load_part("pose", folder, VitPoseImageProcessorPil)
    if model.config.num_labels != JOINTS:
        raise CheckpointError(
            f"annotator 'pose': {folder} finds {model.config.num_labels} joints, expected COCO's {JOINTS}"
        )
    experts = model.config.backbone_config.num_experts

    @torch.inference_mode()
    def find_joints(frame: Array, boxes: Array) -> list[Person]:
        pixels = processor(images=frame, boxes=[boxes], return_tensors="pt").pixel_values
        of_coco = {"dataset_index": torch.zeros(len(boxes), dtype=torch.long, device=canvas.device)}  # ViTPose+
        outputs = model(pixels.to(canvas.device, model.dtype), **(of_coco if experts > 1 else {}))
        outputs.heatmaps = outputs.heatmaps.float()
        found = processor.post_process_pose_estimation(outputs, boxes=[boxes])[0]
        return [_person(joints, *frame.shape[:2]) for joints in found]

    return find_joints


def _person(joints: dict[str, Any], height: int, width: int) -> Person:
    places = joints["keypoints"].numpy().astype(np.float64) / [width, height]
    points = np.concatenate([places, joints["scores"].numpy()[:, None]], axis=1)
    return Person(from_coco(without_strays(points)))
