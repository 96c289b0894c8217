"""Options of the control, the same in the Python API and in the configuration. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from vace_adapt.composing import MaskSettings, Outpaint, Structure
from vace_adapt.contract import Frozen
from vace_adapt.scale import HintScale

ReferenceForm = Literal["joint", "cached", "references_only"]
ReferenceFit = Literal["crop", "letterbox"]
ReferenceBackground = Literal["keep", "remove"]
MaskTime = Literal["group", "nearest"]
KvPolicy = Literal["hint_free", "with_hints"]
Preserve = Literal["model", "latent", "pixel"]
AnchorRule = Literal["group", "frame"]
AnchorSource = Literal["sink", "keyframe", "first"]


class Reanchor(Frozen):
    """When the memory of a stream is rebuilt, so that a very long one does not drift away, and from what.

    Attributes:
        every: chunks from one rebuilding to the next: before chunk `every`, 2 `every`, ...; None sets no period.
        above: a row is rebuilt before a chunk when its drift (`vace_adapt.streaming.drift`, 0 for none) at the chunk
            before was over this; None sets no bound. At least one of the two is given.
        source: what the sink becomes: the newest frames of the stream let go of the old ones (``sink``), the newest
            keyframe stands in for it (``keyframe``), or it becomes the stream's first frames again, and the frames
            after it get back the colour and the contrast of the first chunk (``first``). See
            `vace_adapt.streaming.reanchoring`.
    """

    every: Annotated[int, Field(ge=1)] | None = None
    above: Annotated[float, Field(gt=0)] | None = None
    source: AnchorSource

    @model_validator(mode="after")
    def _comes_due(self) -> Reanchor:
        if self.every is None and self.above is None:
            raise ValueError("needs every (a number of chunks), above (a bound on the drift), or both")
        return self

    @property
    def earliest(self) -> int:
        """Number of the first chunk before which the memory can be rebuilt."""
        return self.every if self.every is not None and self.above is None else 1


class ControlSettings(Frozen):
    """How controls and references act on a stream.

    Attributes:
        structure: what the fed videos show to the model where it generates, see `vace_adapt.composing.Structure`.
            ``plain`` alone takes the fed frames as a ready-made control; an empty list shows nothing, so that only what
            a mask keeps is seen.
        annotators: options of annotators, by name.
        mask: how masks are made or changed.
        outpaint: room to make around the source; None makes none.
        preserve: what keeps the frames where the mask is 0. ``model``: its control latents, as in VACE. ``latent``:
            the finished latents are replaced by the source's, at every denoise step, wherever a latent encodes kept
            pixels only. ``pixel``: the decoded frames are replaced too, so that kept pixels come out bit for bit.
        seam: with ``preserve: pixel``, pixels beside the kept region, inside the generated one, over which the nearest
            kept colour fades into what was generated; 0 is a hard edge.
        anchor: a keyframe fills the ``group`` of frames the VAE encodes with it, or only its own ``frame``, as VACE's
            preprocessing has it; see `vace_adapt.composition.anchors`.
        blank: level (0..255) of a pixel that is to be generated and that nothing steers. 127.5 is zero to the model;
            VACE's inpainting has 128.
        idle: what a chunk gets for which nothing is given. ``bare``: no control at all, so that it is the base's own
            and the VAE forgets what was shown before. ``nothing``: VACE's "nothing given" (mid-gray under an all-one
            mask), so that the control goes on as in a batch, whose every frame is under control.
        scale: strength of the hints.
        reference_form: how references enter the context path; see `vace_adapt.context.stream`.
        reference_slots: how many references may also take part in the base's own self-attention, besides the context
            path, from places that its memory reserves for them when the stream opens; 0 is none. Each costs as much
            memory as one latent frame of the cache for every denoise step and one more. See
            `vace_adapt.context.slots`.
        reference_fit: ``crop`` a reference to fill the frame, or ``letterbox`` it on white.
        reference_background: ``keep`` it, or ``remove`` it where a reference does not say itself; see
            `vace_adapt.conditioning.subject`.
        max_references: more references than this are refused; each costs context tokens and memory.
        mask_time: which mask frame stands for a latent frame; see `vace_adapt.conditioning.masks`.
        kv_policy: ``hint_free`` runs the clean pass without hints and without slots, so that the cache holds what the
            base model alone would write for the same latents; ``with_hints`` runs it with them. A recache never has
            any: the controls of past chunks are gone.
        hint_reuse: N: hints are made anew at denoise steps 0, N, 2N, ... of a chunk, and added again at the steps
            between; 1 makes every step's own. Lossy: hints depend on the noisy latents and on the timestep. A step
            whose scales are not those of the step at which the hints were made makes its own, and so does a clean pass
            with hints, since its latents are finished and no denoise step has its level. Holds one set of hints.
        context_frames: K: the rows of so many latent frames before a chunk stand in front of its own in the context
            path, as far as there are any, so that chunks of few latents have a past there; see
            `vace_adapt.context.stream`. 0 shows none.
        reanchor: rebuild the memory now and then, against drift in very long streams, see `Reanchor`; None never does.
            A rebuilding pass has neither hints nor slots, as a recache.
    """

    structure: tuple[Structure, ...] = (Structure(annotator="plain"),)
    annotators: dict[str, dict[str, Any]] = Field(default_factory=dict)
    mask: MaskSettings = MaskSettings()
    outpaint: Outpaint | None = None
    preserve: Preserve = "model"
    seam: Annotated[int, Field(ge=0, le=64)] = 4
    anchor: AnchorRule = "group"
    blank: Annotated[float, Field(ge=0, le=255)] = 127.5
    idle: Literal["bare", "nothing"] = "bare"
    scale: HintScale = HintScale()
    reference_form: ReferenceForm = "cached"
    reference_slots: Annotated[int, Field(ge=0)] = 0
    reference_fit: ReferenceFit = "crop"
    reference_background: ReferenceBackground = "keep"
    max_references: Annotated[int, Field(ge=1)] = 4
    mask_time: MaskTime = "group"
    kv_policy: KvPolicy = "hint_free"
    hint_reuse: Annotated[int, Field(ge=1)] = 1
    context_frames: Annotated[int, Field(ge=0)] = 0
    reanchor: Reanchor | None = None

    @model_validator(mode="after")
    def _has_a_picture_of_what_it_preserves(self) -> ControlSettings:
        if self.outpaint is not None and self.outpaint.vace_edge and self.preserve != "model":
            raise ValueError(f"outpaint.vace_edge keeps pixels without a picture, so preserve={self.preserve} cannot")
        return self

    @model_validator(mode="after")
    def _has_rows_for_its_past(self) -> ControlSettings:
        if self.context_frames and self.reference_form == "references_only":
            raise ValueError(
                f"context_frames {self.context_frames} has no rows in reference_form=references_only: "
                "use cached or joint"
            )
        return self

    @model_validator(mode="after")
    def _slots_can_be_used(self) -> ControlSettings:
        if self.reference_slots and self.reference_form == "references_only":
            raise ValueError("reference_form=references_only has no reference rows, so reference_slots must be 0")
        if self.reference_slots > self.max_references:
            raise ValueError(
                f"reference_slots {self.reference_slots} are more than the {self.max_references} references "
                "that are allowed (max_references)"
            )
        return self

    @model_validator(mode="after")
    def _has_whole_keyframes(self) -> ControlSettings:
        if self.outpaint is not None and self.reanchor is not None and self.reanchor.source == "keyframe":
            raise ValueError("reanchor.source=keyframe needs keyframes that fill the frame, and outpaint makes room")
        return self

    def too_many(self, scales: Sequence[float]) -> str | None:
        """Why references of these scales are too many; None if they are not. Those of scale 0 take no slot."""
        if len(scales) > self.max_references:
            most = self.max_references
            return f"{len(scales)} references are given, at most {most} are allowed (controls.max_references)"
        heard, slots = sum(scale > 0 for scale in scales), self.reference_slots
        if slots and heard > slots:
            return f"{heard} references are given, the stream has slots for {slots} (controls.reference_slots)"
        return None

    @field_validator("structure", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, (str, dict, Structure)) else given
