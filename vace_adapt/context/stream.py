"""The context path of one stream: everything it may remember, and nothing it may not.

The context sequence of a chunk is [reference rows | chunk rows]. A chunk row starts as its projected control token plus
the base's token at the same place, whatever the number of references; only chunk rows become hints. Reference rows sit
at temporal positions 0 .. R-1 and chunk rows at R .. R+F-1, as in batch VACE, which puts references in front
(ali-vilab/VACE vace/models/wan/wan_vace.py). A reference row starts as the projected control token of
[reference | 0 | 0] plus the base's token of the reference latent, noised to the step's level with a noise that is fixed
for the stream.

With ``context_frames`` K the rows of the k = min(K, frames so far) latent frames in front of the chunk stand between
the two: [reference rows | past rows | chunk rows], at positions 0 .. R-1, R .. R+k-1 and R+k .. R+k+F-1. Chunk rows and
past rows attend to each other, whatever the form. A past row starts as the projected control token of what was given
for its frame ("nothing given", where nothing was) plus the base's token of the frame's finished latent, noised to the
step's level with a noise that is fixed for the frame. Where a pass is one without the control, what was given before is
not shown either: a control that is not heard has no past.

Forms:
    joint: reference rows and chunk rows attend to each other; computed anew in every pass.
    cached: reference rows attend to themselves only. Their keys and values then depend on references, prompt and step,
        not on the chunk: they are computed once per step and reused exactly until references or prompt change.
    references_only: the references take the place of the control at the chunk's own positions (frame 0, 1, ...), with
        "nothing given" behind them, and there are no reference rows. Kept for comparison.

With slots (`vace_adapt.context.slots`), the base's own self-attention sees the references of `joint` and `cached`, too.

Remembered exactly: the projected control tokens (per chunk), text keys and values (per prompt), reference rows
(`cached`). Hints depend on the noisy latents and on the timestep, so keeping them is lossy and has to be asked for
(`vace_adapt.context.reuse`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid, Rotation
from vace_adapt.cache.text import TextMemory
from vace_adapt.context.blocks import ContextPath
from vace_adapt.context.parts import control_scales
from vace_adapt.context.references import ReferenceRows, References
from vace_adapt.context.reuse import LastHints
from vace_adapt.contract import BlockInputs
from vace_adapt.controls import ReferenceForm
from vace_adapt.errors import InputError
from vace_adapt.scale import HintScale


class ContextStream:
    """What the chunks of one stream share.

    Args:
        path: the modules; shared between streams, never changed here.
        patch_embedding: the base's own, latents [B, C, F, h, w] to [B, D, F, rows, columns].
        rope: rotations for this stream's latent size.
        form: how references enter.
        scale: of the next chunks; may be replaced between chunks.
        steps: denoise steps of a chunk.
        slots: references for which the base's memory has a place; 0 keeps them out of the base.
        at_once: chunks that may be at work at once.

    Attributes:
        text: the prompt of the chunks that come. A chunk keeps the one it was made with: the others may still be at
            work under the prompt before.
        grid: token rows and columns of a latent frame.
        negative: the negative prompt of classifier-free guidance; the same for the whole stream.
        last_hints: kept for later steps of the chunk that made them.
        last_negative: the same of the passes under the negative prompt.
        reference_scales: of the references in force, one for each.
        references_given: grows with every change of them.
    """

    def __init__(
        self,
        path: ContextPath,
        patch_embedding: Callable[[Tensor], Tensor],
        rope: RotaryGrid,
        form: ReferenceForm,
        scale: HintScale,
        steps: int = 1,
        slots: int = 0,
        at_once: int = 1,
    ) -> None:
        self.path = path
        self.form = form
        self.scale = scale
        self.steps = steps
        self.slots = slots
        self._texts = deque(TextMemory(list(path.vace_blocks)) for _ in range(at_once))
        self.text = self._texts[0]
        self.negative = TextMemory(list(path.vace_blocks))
        self.last_hints = LastHints(at_once)
        self.last_negative = LastHints(at_once)
        self.grid = rope.grid
        self.frame_tokens = rope.grid[0] * rope.grid[1]
        self.reference_scales: tuple[float, ...] = ()
        self.references_given = 0
        self._references: References | None = None
        self._rows: dict[tuple[int, ...], ReferenceRows] = {}
        self.patch_embedding = patch_embedding
        self._rope = rope
        self._rotations: dict[tuple[int, int], Rotation] = {}

    # --- told by the session, between chunks --------------------------------------------------------------------------

    def set_prompt(self) -> None:
        """Another prompt is in force from the next chunk on; its tokens come with the chunk's first pass."""
        self._texts.rotate(-1)
        self.text = self._texts[0]
        self.text.outdate()

    def set_references(self, references: References | None, scales: Sequence[float] | None = None) -> None:
        """Use these references from the next chunk on, or none.

        Args:
            references: R of them.
            scales: of each, times the stream's own for references; None for 1.

        Raises:
            InputError: another number of scales, or more references than slots.
        """
        count = 0 if references is None else references.count
        chosen = (1.0,) * count if scales is None else tuple(scales)
        if len(chosen) != count:
            raise InputError(f"{len(chosen)} scales are given for {count} references")
        if self.slots and count > self.slots:
            raise InputError(f"{count} references do not fit {self.slots} slots")
        self.reference_scales = chosen
        self.references_given += 1
        self._references = references
        self._rows = {}

    def check(self, *, control: bool, references: int, frames: int) -> None:
        """Refuse inputs that cannot work together in a chunk of `frames` latent frames, before anything changes.

        Raises:
            InputError: with the reason.
        """
        if self.form != "references_only" or not references:
            return
        if control:
            raise InputError("reference_form=references_only has no place for a control: use cached or joint")
        if references > frames:
            raise InputError(f"reference_form=references_only has {frames} places in a chunk, not {references}")

    # --- asked by the chunks ------------------------------------------------------------------------------------------

    def control_scales(self, chunk: int, shape: tuple[int, int], factors: Tensor | None) -> list[Tensor]:
        """Scale of a control at every step of a chunk of `shape` [B, F]; see `vace_adapt.context.parts`."""
        return control_scales(self.scale, chunk, self.steps, factors, (*shape, *self.grid))

    def references(self, chosen: tuple[int, ...]) -> ReferenceRows:
        """Rows of some of the references in force."""
        assert self._references is not None
        if chosen not in self._rows:
            self._rows[chosen] = ReferenceRows(self.path, self.patch_embedding, self._references.only(chosen))
        return self._rows[chosen]

    def entering(self, inputs: BlockInputs, text: TextMemory) -> BlockInputs:
        """What the base gives to the pass that runs now, in the path's dtype; a new prompt is projected into `text`."""
        dtype = self.path.dtype
        inputs = BlockInputs(inputs.hidden.to(dtype), inputs.modulation, inputs.text.to(dtype))
        if not text.written:
            text.write(inputs.text)
        return inputs

    def rotation(self, start: int, frames: int) -> Rotation:
        """Rotation of latent frames at context positions ``start .. start+frames-1``."""
        if (start, frames) not in self._rotations:
            self._rotations[start, frames] = self._rope.at(range(start, start + frames))
        return self._rotations[start, frames]

    def tensors(self) -> dict[str, Tensor]:
        """Every buffer that outlives a pass, by name."""
        remembered = {
            f"references.{','.join(map(str, chosen))}.{name}": tensor
            for chosen, rows in self._rows.items()
            for name, tensor in rows.tensors().items()
        }
        earlier = {
            f"earlier.{i}.{name}": tensor
            for i, text in enumerate(self._texts)
            if i
            for name, tensor in text.tensors().items()
        }
        negative = {
            f"negative.{name}": tensor
            for part in (self.negative, self.last_negative)
            for name, tensor in part.tensors().items()
        }
        return {**self.text.tensors(), **earlier, **remembered, **self.last_hints.tensors(), **negative}
