"""A run of batch VACE: the same inputs, seed, weights and run folder as a streaming one; its one chunk is the clip."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vace_adapt import __version__
from vace_adapt.batch.declaration import INFO, BatchVaceSettings
from vace_adapt.batch.model import BatchVace, Shown
from vace_adapt.composition.anchors import Anchors, first_frame
from vace_adapt.composition.composer import Composed, Composer, Given
from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.pixels import tensor_to_frames
from vace_adapt.conditioning.references import Reference, references_to_tensor
from vace_adapt.config.settings import RunSettings
from vace_adapt.contract import ChunkReport, ChunkShapes, WeightsSettings
from vace_adapt.controls import ControlSettings
from vace_adapt.embedded.family import FAMILY, FAMILY_FOLDER
from vace_adapt.errors import Unsupported
from vace_adapt.experiments.folder import claimed
from vace_adapt.experiments.metrics import Runner
from vace_adapt.experiments.output import RunResult, output
from vace_adapt.experiments.record import record_of
from vace_adapt.experiments.source import Source
from vace_adapt.experiments.weights_used import marks_of
from vace_adapt.scale import HintScale
from vace_adapt.streaming.chunk import StreamedChunk
from vace_adapt.streaming.load import pick_device, pick_dtype
from vace_adapt.streaming.memory import peak_bytes
from vace_adapt.time_map import TimeMap, latent_of


def run_batch(
    settings: RunSettings, source: Source, *, progress: bool = True, clear: Callable[[Path], None] | None = None
) -> RunResult | None:
    """As `vace_adapt.experiments.run.run`.

    Raises:
        Unsupported: an option that only streams have.
        VaceAdaptError: anything else the settings or the inputs have wrong.
    """
    refuse_streaming_options(settings)
    with claimed(settings.output.folder, f"{settings.pipeline.name}-{settings.task.name}", clear) as folder:
        device = pick_device(settings.device)
        dtype = pick_dtype(settings.dtype, device)
        assert isinstance(settings.pipeline, BatchVaceSettings)
        model = BatchVace.load(settings.weights, settings.pipeline, device, dtype)
        record = record_of(settings, INFO, f"vace-adapt {__version__}", device, _marks(settings.weights))
        runner = Runner(True, str(device), str(dtype).removeprefix("torch."))
        with output(folder, settings, source, runner, record, progress) as made:
            made.add(_clip(model, settings, source, device))
        return made.result


def refuse_streaming_options(settings: RunSettings) -> None:
    """Refuse what batch VACE does not have.

    Raises:
        Unsupported: with the reason.
    """
    controls, plain = settings.controls, ControlSettings()
    scale = controls.scale
    reasons = {
        "switches": ("one prompt and one set of references hold for the whole clip", bool(settings.switches)),
        "compile": ("it is run once", settings.compile),
        "controls.preserve": (INFO.capabilities["preserve_latents"].reason, controls.preserve == "latent"),
        "controls.reanchor": (INFO.capabilities["reanchor"].reason, controls.reanchor is not None),
        "controls.reference_slots": (INFO.capabilities["reference_slots"].reason, controls.reference_slots > 0),
        "controls.context_frames": ("nothing comes before the clip", controls.context_frames > 0),
        "controls.hint_reuse": ("hints are made at every step", controls.hint_reuse != plain.hint_reuse),
        "controls.scale": (
            "its hints have one scale for control and references, the same at every step and frame",
            (bool(settings.references) and scale.control != scale.references)
            or scale.frames is not None
            or scale.control_schedule != HintScale().control_schedule
            or scale.references_schedule != HintScale().references_schedule,
        ),
        "references": ("references have no scales of their own", any(one.scale != 1 for one in settings.references)),
    }  # fmt: skip
    for key, (reason, given) in reasons.items():
        if given:
            raise Unsupported(f"pipeline 'batch_vace': {key} is unsupported: {reason}")


@dataclass(frozen=True)
class _Size:
    """Sizes of a clip: whole latent frames, the last of which may stand for fewer frames than it has."""

    shapes: ChunkShapes
    frames: int

    @classmethod
    def of(cls, source: Source) -> _Size:
        latents = latent_of(source.frames - 1, FAMILY.stride[0]) + 1
        time_map = TimeMap(latents, latents, FAMILY.stride[0])
        return cls(ChunkShapes.of(FAMILY, time_map, source.height, source.width), source.frames)


def _clip(model: BatchVace, settings: RunSettings, source: Source, device: torch.device) -> StreamedChunk:
    """The clip as one chunk; its time is that of everything but loading."""
    begin = time.perf_counter()
    size = _Size.of(source)
    batch = 1, source.height, source.width
    composed = _composed(settings, source, size, device)
    references = None
    if settings.references:
        given = [Reference(**reference.model_dump()) for reference in settings.references]
        fit = settings.controls.reference_fit, *batch, settings.controls.reference_background
        references = references_to_tensor(given, *fit)
    shape = 1, 3, size.shapes.time.pixels(0), source.height, source.width
    nothing = composed is None and references is None
    scale = 0.0 if nothing else settings.controls.scale.control if composed else settings.controls.scale.references
    factors = settings.controls.scale.layers or (1.0,) * model.layers
    shown = Shown(
        frames=torch.zeros(shape) if composed is None else composed.frames,
        mask=None if composed is None else composed.mask,
        references=references,
        scales=[scale * factor for factor in factors],
    )
    encoder = ControlEncoder(model.codec, size.shapes.time, batch, settings.controls.mask_time)
    latents, frames = model(settings.prompt, shown, encoder, settings.seed)
    frames = frames[:, : size.frames]
    report = ChunkReport(
        index=0, latent_start=0, latents=latents.shape[2], pixels=size.frames, seconds=time.perf_counter() - begin,
        controlled=not nothing, references=len(settings.references), cache_bytes=0,
        peak_memory_bytes=peak_bytes(device), drift=(0.0,), reanchored=False,
    )  # fmt: skip
    control, mask = _seen(composed, size.frames)
    return StreamedChunk(frames, latents, report, control, mask)


def _composed(settings: RunSettings, source: Source, size: _Size, device: torch.device) -> Composed | None:
    """What the streaming pipelines would show VACE, for the whole clip at once."""
    composer = Composer(settings.controls, size.shapes, 1, 1, str(device), settings.weights.download)
    given = _given(source, size.shapes.time.pixels(0))
    if given is not None:
        composer.check(given)
    made = composer(0, given, _anchors(settings, source, size).within(0))
    if made is not None and made.factors is not None:
        raise Unsupported("pipeline 'batch_vace': scales of single controls are unsupported: its hints have one scale")
    return made


def _given(source: Source, count: int) -> Given | None:
    """Every input frame; the last is repeated where the last latent has room for more."""
    moments = list(source.moments())
    if not moments:
        return None
    moments += [moments[-1]] * (count - len(moments))
    stacked = {name: np.stack([moment.videos[name] for moment in moments]) for name in source.videos}
    videos = {name: torch.from_numpy(video)[None] for name, video in stacked.items()}
    masks = [moment.mask for moment in moments if moment.mask is not None]
    return Given(videos, torch.from_numpy(np.stack(masks))[None] if masks else None)


def _anchors(settings: RunSettings, source: Source, size: _Size) -> Anchors:
    anchors = Anchors(size.shapes.time, settings.controls.anchor)
    placed: list[tuple[Path | None, int | None, int | None]] = [(settings.first, 0, None), (settings.last, None, -1)]
    placed += [(keyframe.path, keyframe.frame, keyframe.end) for keyframe in settings.keyframes]
    for path, frame, end in placed:
        if path is not None:
            pictures = torch.from_numpy(source.pictures(path))[None].float() / 255
            at = first_frame(pictures.shape[1], frame, end, source.frames)
            anchors.add(pictures, torch.zeros(pictures.shape[:-1]), at, next_chunk=0)
    return anchors


def _seen(composed: Composed | None, count: int) -> tuple[Any, Any]:
    """Control and mask as a run folder keeps them."""
    if composed is None:
        return None, None
    mask = composed.mask
    levels = None if mask is None else (mask[:, 0, :count] * 255).round().to("cpu", torch.uint8)
    return tensor_to_frames(composed.frames[:, :, :count]), levels


def _marks(weights: WeightsSettings) -> Any:
    folder = str(FAMILY_FOLDER)
    return marks_of(WeightsSettings(vae=folder, text_encoder=folder, control=folder) if weights.embedded else weights)
