"""The composed configuration as one frozen, validated value. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from vace_adapt.contract import Frozen, PipelineSettings, WeightsSettings
from vace_adapt.controls import ControlSettings
from vace_adapt.errors import SettingsError
from vace_adapt.validation import mistakes_of


class TaskSettings(Frozen):
    """What the inputs of a run are (``task=NAME``). A preset over the same inputs, never a mode.

    Attributes:
        name, describe: for people.
        needs: inputs that must be given.
        blank_masked: paint the generated region mid-gray before it is encoded, so that its old content does not leak.
    """

    name: str
    describe: str
    needs: tuple[Literal["input", "mask", "references"], ...] = ()
    blank_masked: bool = False


class PromptSwitch(Frozen):
    """Another prompt from chunk number `chunk` on."""

    chunk: Annotated[int, Field(ge=1)]
    prompt: str


class OutputSettings(Frozen):
    """Where and how a run is written."""

    folder: Path | None = None
    quality: Annotated[int, Field(ge=0, le=51)] = 18


class RunSettings(Frozen):
    """Everything ``vace-adapt run`` needs; keys as in ``conf/config.yaml``."""

    pipeline: SerializeAsAny[PipelineSettings]
    task: TaskSettings
    weights: WeightsSettings
    controls: ControlSettings
    output: OutputSettings
    input: Path | None
    mask: Path | None
    references: tuple[Path, ...]
    prompt: str
    switches: tuple[PromptSwitch, ...]
    frames: Annotated[int, Field(ge=1)] | None
    height: Annotated[int, Field(ge=16)] | None
    width: Annotated[int, Field(ge=16)] | None
    area: Annotated[int, Field(ge=256)] | None
    fps: Annotated[float, Field(ge=0.1, le=1000)] | None
    seed: int
    device: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    compile: bool

    @field_validator("input", "mask")
    @classmethod
    def _is_file(cls, path: Path | None) -> Path | None:
        if path is not None:
            _check_file(path)
        return path

    @field_validator("references", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, (str, Path)) else given

    @field_validator("references")
    @classmethod
    def _are_files(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        for path in paths:
            _check_file(path, "; several are given as [a,b]" if "," in str(path) else "")
        return paths

    @field_validator("switches")
    @classmethod
    def _one_for_each_chunk(cls, switches: tuple[PromptSwitch, ...]) -> tuple[PromptSwitch, ...]:
        chunks = [switch.chunk for switch in switches]
        for chunk in chunks:
            if chunks.count(chunk) > 1:
                raise ValueError(f"chunk {chunk} has {chunks.count(chunk)} prompts, expected one")
        return switches

    @model_validator(mode="after")
    def _inputs_fit(self) -> RunSettings:
        for need in self.task.needs:
            if not getattr(self, need):
                raise ValueError(f"task={self.task.name} needs {need}=... ({self.task.describe})")
        if self.mask is not None and self.input is None:
            raise ValueError("mask needs input=...: without a video there is nothing to keep")
        if self.frames is None and self.input is None:
            raise ValueError("frames=... is not given, and there is no input video to follow")
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width go together: give both or neither")
        if len(self.references) > self.controls.max_references:
            raise ValueError(
                f"{len(self.references)} references are given, "
                f"at most {self.controls.max_references} are allowed (controls.max_references)"
            )
        return self


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
