"""Options of the control, the same in the Python API and in the configuration. Importing this does not import torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator

from vace_adapt.contract import Frozen

ReferenceForm = Literal["joint", "cached", "references_only"]
ReferenceFit = Literal["crop", "letterbox"]
MaskTime = Literal["group", "nearest"]
KvPolicy = Literal["hint_free", "with_hints"]

LARGEST_SCALE = 100
"""Far beyond any use; a factor without a bound could overflow."""

Part = tuple[float, bool, bool]
"""One context pass: factor, with the control, with the references."""


class HintScale(Frozen):
    """How strongly hints act: factors, all finite and within 0..100; 1 is VACE as trained.

    The hint of layer j on latent frame f of a chunk is multiplied by ``layers[j] * frames[f]`` and by the scale of what
    caused it. Where control and references have different scales, the smaller is applied to the hint of both together
    and the excess to the hint of the stronger one alone: equal scales give VACE's own hint times the scale, a scale of
    0 is the same as not giving that input, and everything between is continuous. Unequal scales cost a second context
    pass.

    Attributes:
        control: scale of control frames and masks.
        references: scale of the references.
        layers: one factor for each context layer, or None for 1.
        frames: one factor for each latent frame of the longest chunk, or None for 1; a shorter first chunk uses the
            leading ones.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # refused below, in the same words as other factors

    control: float = 1.0
    references: float = 1.0
    layers: tuple[float, ...] | None = None
    frames: tuple[float, ...] | None = None

    @field_validator("control", "references", "layers", "frames")
    @classmethod
    def _in_range(cls, value: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
        for factor in () if value is None else value if isinstance(value, tuple) else (value,):
            if not 0 <= factor <= LARGEST_SCALE:
                raise ValueError(f"a scale must be within 0..{LARGEST_SCALE}, not {factor}")
        return value

    def parts(self, *, control: bool, references: bool) -> list[Part]:
        """The context passes needed when these inputs are present; empty when nothing would be added."""
        by_control = self.control if control else 0.0
        by_references = self.references if references else 0.0
        common = min(by_control, by_references)
        parts = [
            (common, True, True),
            (by_control - common, True, False),
            (by_references - common, False, True),
        ]
        silent = not any(self.layers or (1.0,)) or not any(self.frames or (1.0,))
        return [] if silent else [part for part in parts if part[0] > 0]


class ControlSettings(Frozen):
    """How controls and references act on a stream.

    Attributes:
        scale: strength of the hints.
        reference_form: how references enter the context path; see `vace_adapt.context.stream`.
        reference_fit: ``crop`` a reference to fill the frame, or ``letterbox`` it on white.
        max_references: more references than this are refused; each costs context tokens and memory.
        mask_time: which mask frame stands for a latent frame; see `vace_adapt.conditioning.masks`.
        kv_policy: ``hint_free`` runs the clean pass without hints, so that the cache holds what the base model alone
            would write for the same latents; ``with_hints`` runs it with them. A recache never has hints: the controls
            of past chunks are gone.
    """

    scale: HintScale = HintScale()
    reference_form: ReferenceForm = "cached"
    reference_fit: ReferenceFit = "crop"
    max_references: Annotated[int, Field(ge=1)] = 4
    mask_time: MaskTime = "group"
    kv_policy: KvPolicy = "hint_free"
