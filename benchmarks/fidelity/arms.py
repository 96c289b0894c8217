"""Who generates: batch VACE, a streaming pipeline with any options, the same without hints, and chance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np
from batch import BatchVace
from cases import Case, Given
from students import hooks, students, weights_hash

from vace_adapt import ControlSettings, load_pipeline
from vace_adapt.embedded.family import FAMILY_FOLDER
from vace_adapt.streaming.pipeline import Pipeline

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Arm:
    """One way to generate.

    Attributes:
        name: as the tables have it.
        kind: ``batch``, ``stream``, ``chance`` (the truth of another clip) or ``codec`` (the clip itself, encoded and
            decoded: what the autoencoder allows).
        hints: False runs a stream without hints.
        pipeline: of a stream.
        settings: of that pipeline.
        controls: options of the stream; of batch VACE, where it departs from VACE's own rules.
    """

    name: str
    kind: str = "stream"
    hints: bool = True
    pipeline: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for arms that generate the same, whatever table they stand in: by every option as it is in force."""
        if self.kind != "stream":
            return " ".join([self.kind, *(f"{name}={value}" for name, value in sorted(self.controls.items()))])
        settings = hooks(self.pipeline).settings_type()(name=self.pipeline, **self.settings).model_dump(mode="json")
        controls = ControlSettings(**self.controls).model_dump(mode="json")
        options = json.dumps([self.pipeline, self.hints, settings, controls], sort_keys=True)
        return f"{self.pipeline} {hashlib.sha256(options.encode()).hexdigest()[:12]}"

    @property
    def weights(self) -> str:
        """Hash of what it runs on: without hints, the truth and the codec do not depend on the context blocks."""
        return weights_hash(self.pipeline or None, context=self.hints and self.kind in ("batch", "stream"))

    def __call__(self, case: Case, number: int, seed: int, frames: int = 81) -> float:
        """The score of a case on one clip."""
        clip = case.clip(number, frames)
        given = case.give(clip)
        return case.score(self.frames(case, given, number, seed, frames), clip, given)

    def frames(self, case: Case, given: Given, number: int, seed: int, frames: int = 81) -> Array:
        """What comes out: uint8 [T, 64, 64, 3]."""
        if self.kind == "chance":
            return case.clip(number + 1000, frames).frames
        if self.kind == "codec":
            return _batch().through_codec(case.clip(number, frames).frames)
        if self.kind == "batch":
            return _batch()(given, frames, seed, **self.controls)
        settings = tuple(sorted(self.settings.items()))
        pipeline = _pipeline(self.pipeline, settings)
        acts = pipeline.parts.starts_from_video or given.source is not None or given.keyframes
        if not self.hints and not acts and not self.controls:
            return _prompted(self.pipeline, settings, given.prompt, seed, frames)
        return stream(pipeline, given, seed, frames, self.hints, self.controls)


def stream(
    pipeline: Pipeline,
    given: Given,
    seed: int,
    frames: int,
    hints: bool = True,
    controls: Mapping[str, Any] | None = None,
) -> Array:
    """A clip chunk by chunk: uint8 [T, 64, 64, 3]."""
    structure = [] if given.control is None else ["plain"]
    options = {"structure": structure, "reference_fit": "letterbox", **(controls or {})}
    with pipeline.stream(
        given.prompt,
        height=64,
        width=64,
        seed=seed,
        num_frames=frames,
        references=list(given.references),
        scale=None if hints else 0.0,
        controls=options,
    ) as session:
        for pictures, at in given.keyframes:
            session.keyframe(pictures, frame=at)
        if given.source is not None and given.mask is not None:
            steering = given.source if given.control is None else given.control
            session.feed(np.where(given.mask[..., None] > 127, steering, given.source), given.mask, last=True)
        elif given.control is not None:
            session.feed(given.control, last=True)
        return np.concatenate([chunk.frames[0].numpy() for chunk in session])


@cache
def _pipeline(name: str, settings: tuple[tuple[str, Any], ...]) -> Pipeline:
    return load_pipeline(name, settings=dict(settings), device="cpu", dtype="float32")


@lru_cache(maxsize=64)
def _prompted(name: str, settings: tuple[tuple[str, Any], ...], prompt: str, seed: int, frames: int) -> Array:
    """What a prompt alone makes: the same for every control that is given and makes no hints."""
    return stream(_pipeline(name, settings), Given(prompt), seed, frames)


@cache
def _batch() -> BatchVace:
    return BatchVace(FAMILY_FOLDER, _pipeline(next(iter(students())), ()).parts.text_encoder)
