"""The composed configuration as one frozen, validated value. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from vace_adapt.composing import MAIN
from vace_adapt.contract import Frozen, PipelineSettings, WeightsSettings
from vace_adapt.controls import ControlSettings, ReferenceBackground
from vace_adapt.errors import SettingsError
from vace_adapt.scale import LARGEST_SCALE, HintScale
from vace_adapt.streaming.controls import changed
from vace_adapt.validation import mistakes_of


class TaskSettings(Frozen):
    """What the inputs of a run are (``task=NAME``). A preset over the other keys, never a mode.

    Attributes:
        name, describe: for people.
        needs: inputs that must be given.
    """

    name: str
    describe: str
    needs: tuple[Literal["input", "mask", "references", "first", "last", "keyframes"], ...] = ()


class ReferenceSettings(Frozen):
    """One reference; a bare path stands for ``{image: PATH}``. See `vace_adapt.conditioning.references.Reference`.

    Attributes:
        image: its file.
        scale: strength of its hints, times ``controls.scale.references``.
        role: what it is (face, object, style, ...), for people.
        mask: an image of its size: white is the subject, everything else becomes white.
        box: the subject's [left, top, right, bottom] as fractions; it is cut out.
        background: ``keep`` or ``remove``; None is ``controls.reference_background``.
    """

    image: Path
    scale: Annotated[float, Field(ge=0, le=LARGEST_SCALE)] = 1.0
    role: str | None = None
    mask: Path | None = None
    box: tuple[float, float, float, float] | None = None
    background: ReferenceBackground | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, given: Any) -> Any:
        return {"image": given} if isinstance(given, (str, Path)) else given

    @field_validator("image", "mask")
    @classmethod
    def _is_file(cls, path: Path | None) -> Path | None:
        if path is not None:
            _check_file(path, "; several are given as [a,b]" if "," in str(path) else "")
        return path


class KeyframeSettings(Frozen):
    """A picture or a clip at given frames of the output.

    Attributes:
        path: an image or a video.
        frame: of its first picture.
        end: of its last one instead; negative numbers count from the end of the stream.
    """

    path: Path
    frame: Annotated[int, Field(ge=0)] | None = None
    end: int | None = None

    @field_validator("path")
    @classmethod
    def _is_file(cls, path: Path) -> Path:
        _check_file(path)
        return path

    @model_validator(mode="after")
    def _placed(self) -> KeyframeSettings:
        if (self.frame is None) == (self.end is None):
            raise ValueError("needs one of frame (of its first picture) and end (frame of its last one)")
        return self


class Switch(Frozen):
    """What changes from chunk number `chunk` on; see `Session.update`. What is not named stays.

    Attributes:
        chunk: its number.
        prompt: another prompt.
        references: other references; an empty list takes them away.
        scale: another scale, as ``controls.scale``.
        controls: other options of the control, by name.
    """

    chunk: Annotated[int, Field(ge=1)]
    prompt: str | None = None
    references: tuple[ReferenceSettings, ...] | None = None
    scale: HintScale | None = None
    controls: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Switch:
        if self.prompt is None and self.references is None and self.scale is None and self.controls is None:
            raise ValueError("needs one of prompt, references, scale and controls")
        return self


TrackerName = Literal["tensorboard", "mlflow"]
"""See `vace_adapt.experiments.trackers`."""


class OutputSettings(Frozen):
    """Where and how a run is written."""

    folder: Path | None = None
    trackers: tuple[TrackerName, ...] = ()
    quality: Annotated[int, Field(ge=0, le=51)] = 18


class RunSettings(Frozen):
    """Everything ``vace-adapt run`` needs; keys as in ``conf/config.yaml``."""

    pipeline: SerializeAsAny[PipelineSettings]
    task: TaskSettings
    weights: WeightsSettings
    controls: ControlSettings
    output: OutputSettings
    input: Path | None
    videos: dict[str, Path]
    mask: Path | None
    references: tuple[ReferenceSettings, ...]
    first: Path | None
    last: Path | None
    keyframes: tuple[KeyframeSettings, ...]
    prompt: str
    switches: tuple[Switch, ...]
    frames: Annotated[int, Field(ge=1)] | None
    height: Annotated[int, Field(ge=16)] | None
    width: Annotated[int, Field(ge=16)] | None
    area: Annotated[int, Field(ge=256)] | None
    fps: Annotated[float, Field(ge=0.1, le=1000)] | None
    seed: int
    device: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    compile: bool

    @field_validator("input", "mask", "first", "last")
    @classmethod
    def _is_file(cls, path: Path | None) -> Path | None:
        if path is not None:
            _check_file(path)
        return path

    @field_validator("videos")
    @classmethod
    def _are_files(cls, videos: dict[str, Path]) -> dict[str, Path]:
        if MAIN in videos:
            raise ValueError(f"{MAIN!r} is the name of input=...: choose another")
        for path in videos.values():
            _check_file(path)
        return videos

    @field_validator("references", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, (str, Path, dict)) else given

    @field_validator("switches")
    @classmethod
    def _one_for_each_chunk(cls, switches: tuple[Switch, ...]) -> tuple[Switch, ...]:
        chunks = [switch.chunk for switch in switches]
        for chunk in chunks:
            if chunks.count(chunk) > 1:
                raise ValueError(f"chunk {chunk} has {chunks.count(chunk)} switches, expected one")
        return switches

    @model_validator(mode="after")
    def _inputs_fit(self) -> RunSettings:
        for need in self.task.needs:
            if not getattr(self, need):
                raise ValueError(f"task={self.task.name} needs {need}=... ({self.task.describe})")
        if self.mask is not None and self.input is None:
            raise ValueError("mask needs input=...: without a video there is nothing to keep")
        if self.mask is not None and self.controls.mask.annotator is not None:
            raise ValueError(
                f"mask=... is given, and controls.mask.annotator={self.controls.mask.annotator} makes one: "
                "leave one out (null)"
            )
        if self.videos and self.input is None:
            raise ValueError("videos need input=...: they go along with it")
        reanchor = self.controls.reanchor
        if reanchor is not None and reanchor.source == "keyframe" and not (self.first or self.last or self.keyframes):
            raise ValueError("controls.reanchor.source=keyframe needs first=..., last=... or keyframes=...")
        if self.frames is None and self.input is None:
            raise ValueError("frames=... is not given, and there is no input video to follow")
        controls = self.controls
        for switch in sorted(self.switches, key=lambda switch: switch.chunk):
            if switch.controls is not None:
                try:
                    controls = changed(controls, switch.controls)
                except SettingsError as error:
                    raise ValueError(f"switches, chunk {switch.chunk}: {error}") from None
            if excess := self._too_many(switch.references or ()):
                raise ValueError(f"switches, chunk {switch.chunk}: {excess}")
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width go together: give both or neither")
        if excess := self._too_many(self.references):
            raise ValueError(excess)
        return self

    def _too_many(self, references: Sequence[ReferenceSettings]) -> str | None:
        return self.controls.too_many([reference.scale for reference in references])


def _check_file(path: Path, hint: str = "") -> None:
    """Raises: ValueError: there is no file, or it cannot be looked at."""
    try:
        there = path.is_file()
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    if not there:
        raise ValueError(f"no file {str(path)!r}{hint}")


def validate(composed: Mapping[str, Any], pipeline_type: type[PipelineSettings]) -> RunSettings:
    """A composed configuration as `RunSettings`.

    Args:
        composed: plain containers, as Hydra composed them.
        pipeline_type: what the chosen plugin's `vace_settings` names.

    Raises:
        SettingsError: with every mistake in it.
    """
    found: list[str] = []
    section = dict(composed)
    try:
        section["pipeline"] = pipeline_type.model_validate(composed.get("pipeline", {}))
    except ValidationError as error:
        found += mistakes_of(error, "pipeline", pipeline_type)
        section["pipeline"] = PipelineSettings(name="unknown")
    try:
        settings = RunSettings.model_validate(section)
    except ValidationError as error:
        found += mistakes_of(error, "", RunSettings)
    if found:
        raise SettingsError("; ".join(found))
    return settings
