"""The measures by name: what a table and a plot say of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One measure.

    Attributes:
        title: for people.
        unit: of its values; empty for a ratio.
        better: which end is better; None where neither is in itself.
        group: what it says something about.
        means: one line.
    """

    title: str
    unit: str
    better: Literal["higher", "lower"] | None
    group: Literal["control", "keeping", "looks", "motion", "time and memory"]
    means: str


METRICS = {
    "edge_f1": Metric("edges of the control", "F1", "higher", "control", "edges of control and video that meet"),
    "gray_correlation": Metric("gray of the control", "r", "higher", "control", "correlation of the luma"),
    "depth_correlation": Metric("depth of the control", "r", "higher", "control", "correlation of the depth map"),
    "flow_error": Metric("flow of the input", "px/frame", "lower", "control", "end-point error of the optical flow"),
    "layout_iou": Metric("boxes of the layout", "IoU", "higher", "control", "boxes, followed from the first frame"),
    "changed_iou": Metric("made anew where masked", "IoU", "higher", "control", "where it changed, and the mask"),
    "psnr": Metric("kept, PSNR", "dB", "higher", "keeping", "against what was to be kept, through the mp4"),
    "ssim": Metric("kept, SSIM", "", "higher", "keeping", "structural similarity of what was to be kept"),
    "colour_similarity": Metric("colours of the reference", "share", "higher", "looks", "histograms that meet"),
    "reference_similarity": Metric("like the reference", "cosine", "higher", "looks", "features of DINOv2 or CLIP"),
    "sharpness": Metric("sharpness", "levels²", None, "looks", "variance of the Laplacian; noise is sharp, too"),
    "colour_drift": Metric("colour drift", "ΔE", "lower", "looks", "mean colour of the last chunk from the first's"),
    "contrast_drift": Metric("contrast kept", "ratio", None, "looks", "contrast of the last chunk over the first's"),
    "warp_error": Metric("flow-warp error", "1e-3", "lower", "motion", "change that motion does not explain"),
    "boundary_jump": Metric("jump between chunks", "ratio", "lower", "motion", "change at a boundary over inside"),
    "first_frame_latency": Metric("first frame", "s", "lower", "time and memory", "until the first frame is there"),
    "chunk_latency": Metric("chunk, median", "s", "lower", "time and memory", "time of a chunk"),
    "chunk_latency_p95": Metric("chunk, p95", "s", "lower", "time and memory", "95 of 100 chunks are as fast"),
    "fps": Metric("frames a second", "fps", "higher", "time and memory", "frames made over seconds taken"),
    "peak_memory": Metric("peak memory", "MiB", "lower", "time and memory", "of the device, or of the process"),
    "cache_memory": Metric("cache", "MiB", "lower", "time and memory", "what the stream remembers"),
}
"""In the order of the tables."""
