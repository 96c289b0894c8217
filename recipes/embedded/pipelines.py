"""Streaming pipelines that get a student of the base, by the numbers of their own settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from causal import Window

from vace_adapt.contract import CausalSettings
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt_framepack.settings import FramePackSettings
from vace_adapt_longlive.settings import LongLiveSettings
from vace_adapt_memflow.settings import MemFlowSettings
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings

PLUGINS = Path(__file__).parents[2] / "plugins"


@dataclass(frozen=True)
class Student:
    """One of them.

    Attributes:
        window: what the pipeline's memory shows a chunk.
        sigmas: noise levels of its steps.
        causal: the stage ``causal_NAME`` that it begins from.
        share: how far from the base towards the distilled weights it is shipped; chosen on clips that are neither
            trained on nor measured.
        file: where it is shipped.
    """

    window: Window
    sigmas: tuple[float, ...]
    causal: str
    file: Path
    share: float = 0.5


@dataclass(frozen=True)
class PackedStudent:
    """The one that is not distilled: FramePack takes many steps.

    Attributes:
        settings: of the pipeline.
        file: as in `Student`.
        share: as in `Student`. Nearer to the base control is followed better, and sections join worse.
    """

    settings: FramePackSettings
    file: Path
    share: float = 0.75


def students() -> dict[str, Student]:
    """By the pipeline's name."""
    longlive, memflow = LongLiveSettings(name="longlive"), MemFlowSettings(name="memflow")
    stream = StreamDiffusionSettings(name="streamdiffusion")
    return {
        "longlive": Student(
            Window(longlive.chunk_latents, longlive.sink, longlive.slots),
            _sigmas(longlive, longlive.denoising_steps),
            "longlive",
            _file("longlive"),
        ),
        "memflow": Student(
            Window(memflow.chunk_latents, memflow.sink, memflow.slots, bank=memflow.bank),
            _sigmas(memflow, memflow.denoising_steps),
            "longlive",
            _file("memflow"),
        ),
        "streamdiffusion": Student(
            Window(
                stream.chunk_latents,
                stream.sink,
                stream.slots,
                more=stream.first_latents - stream.chunk_latents,
                clean=False,
            ),
            _sigmas(stream, (stream.noise_step, *stream.denoising_steps[1:])),
            "streamdiffusion",
            _file("streamdiffusion"),
        ),
    }


def _sigmas(settings: CausalSettings | StreamDiffusionSettings, steps: Sequence[float]) -> tuple[float, ...]:
    schedule = FewStepSchedule(
        steps, shift=settings.timestep_shift, warp=settings.warp_denoising_steps, device=torch.device("cpu")
    )
    return tuple(schedule.sigmas)


def _file(name: str) -> Path:
    return PLUGINS / name / f"vace_adapt_{name}" / "weights" / "student.safetensors"


FRAMEPACK = PackedStudent(FramePackSettings(name="framepack"), _file("framepack"))
