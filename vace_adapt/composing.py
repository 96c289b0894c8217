"""Options of how inputs are put together for VACE: one picture and one mask for every frame. Importing this imports
neither torch nor OpenCV.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vace_adapt.boxes import Box
from vace_adapt.contract import Frozen
from vace_adapt.scale import LARGEST_SCALE, Schedule

Ratio = Annotated[float, Field(ge=0, le=4)]

MAIN = "input"
"""Name of the video that is fed without a name."""


class Structure(Frozen):
    """One structural control: an annotator's pictures of a video, where they steer and how strongly.

    In a configuration a bare name stands for ``{annotator: NAME}``.

    Attributes:
        annotator: name of an installed annotator that makes control pictures; ``plain`` takes a ready-made control
            video as it is.
        options: of this one, over those in ``controls.annotators.NAME``.
        video: which fed video it annotates.
        region: [left, top, right, bottom] as fractions of the source frame; None is everywhere.
        weight: share where several controls overlap: pictures are averaged by weight times scale.
        scale: strength of the hints where this control steers, times ``controls.scale.control``. Where several
            overlap, the mean by share. 0 is the same as not having it; over 0, whatever else is in a token's hint (a
            mask's edge) is scaled with it.
        schedule: how the scale changes over chunks and denoise steps. Controls that overlap act in the same steps.
    """

    annotator: str
    options: dict[str, Any] = Field(default_factory=dict)
    video: str = MAIN
    region: Box | None = None
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    scale: Annotated[float, Field(ge=0, le=LARGEST_SCALE)] = 1.0
    schedule: Schedule = Schedule()

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        return {"annotator": given} if isinstance(given, str) else given


class MaskSettings(Frozen):
    """How a mask is made or changed, in this order: annotator, invert, shape, augment, grow, feather.

    Attributes:
        annotator: an annotator that makes the mask of frames fed without one; None makes none.
        invert: swap generate and keep.
        shape: ``as_given``, the convex ``hull`` of what is to be generated, or its bounding ``box``;
            ``dots_hull`` and ``dots_box`` are those of the centres of blots that were dabbed around it.
        augment: seed of VACE's mask augmentation, which expands the region by random shares of its size; None does
            not.
        grow: pixels by which the region to generate grows; negative shrinks it.
        feather: pixels over which it fades out. The model sees the soft values; frames are cut where it is over half.
    """

    annotator: str | None = None
    invert: bool = False
    shape: Literal["as_given", "hull", "box", "dots_hull", "dots_box"] = "as_given"
    augment: Annotated[int, Field(ge=0)] | None = None
    grow: Annotated[int, Field(ge=-256, le=256)] = 0
    feather: Annotated[int, Field(ge=0, le=256)] = 0

    @property
    def changes(self) -> bool:
        """Whether masks are not taken as they come."""
        return self.model_copy(update={"annotator": None}) != MaskSettings()


class Outpaint(Frozen):
    """Room to make around the source, as ratios of its sides. The stream's frame size stays fixed: the source is placed
    on it.

    Attributes:
        left, right, up, down: at least one is over 0.
        inner: leave the source at full size and make its border anew instead; opposite ratios are then below 1 in
            all.
        vace_edge: with `inner`, VACE's mask keeps one column and one row more, to the right and below, of which there
            is no picture. True does the same.
    """

    left: Ratio = 0.0
    right: Ratio = 0.0
    up: Ratio = 0.0
    down: Ratio = 0.0
    inner: bool = False
    vace_edge: bool = False

    @model_validator(mode="after")
    def _makes_room(self) -> Outpaint:
        if not any((self.left, self.right, self.up, self.down)):
            raise ValueError("at least one of left, right, up, down must be over 0")
        if self.inner and (self.left + self.right >= 1 or self.up + self.down >= 1):
            raise ValueError("inner: opposite ratios must stay below 1 in all, or nothing of the source is kept")
        return self
