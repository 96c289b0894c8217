"""Hints for one stream: the context path with everything it may remember, and nothing it may not.

The context sequence of a chunk is [reference rows | chunk rows]. A chunk row starts as its projected control token plus
the base's token at the same place, whatever the number of references; only chunk rows become hints. Reference rows sit
at temporal positions 0 .. R-1 and chunk rows at R .. R+F-1, as in batch VACE, which puts references in front
(ali-vilab/VACE vace/models/wan/wan_vace.py). A reference row starts as the projected control token of
[reference | 0 | 0] plus the base's token of the reference latent, noised to the step's level with a noise that is fixed
for the stream.

Forms:
    joint: reference rows and chunk rows attend to each other; computed anew in every pass.
    cached: reference rows attend to themselves only. Their keys and values then depend on references, prompt and step,
        not
        on the chunk: they are computed once per step and reused exactly until references or prompt change.
    references_only: the references take the place of the control at the chunk's own positions (frame 0, 1, ...), with
        "nothing given" behind them, and there are no reference rows. Kept for comparison.

Remembered exactly: the projected control tokens (per chunk), text keys and values (per prompt), reference rows
(`cached`).
Never remembered: hints. They depend on the noisy latents and on the timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from einops import repeat
from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid, Rotation
from vace_adapt.cache.text import TextMemory
from vace_adapt.context.blocks import ContextPath, ReferenceLayer
from vace_adapt.context.references import ReferenceRows, References
from vace_adapt.contract import BlockInputs, Hints, HintSource
from vace_adapt.controls import HintScale, Part, ReferenceForm
from vace_adapt.errors import AttachError, InputError

Given = Literal["control", "nothing", "references"]
"""What stands at the chunk's positions in the context sequence."""


class ContextStream:
    """The context path of one stream.

    Args:
        path: the modules; shared between streams, never changed here.
        patch_embedding: the base's own, latents [B, C, F, h, w] to [B, D, F, rows, columns].
        rope: rotations for this stream's latent size.
        form: how references enter.
        scale: see `HintScale`; may be replaced between chunks.
    """

    def __init__(
        self,
        path: ContextPath,
        patch_embedding: Callable[[Tensor], Tensor],
        rope: RotaryGrid,
        form: ReferenceForm,
        scale: HintScale,
    ) -> None:
        self.path = path
        self.form = form
        self._patch_embedding = patch_embedding
        self._rope = rope
        self._frame_tokens = rope.grid[0] * rope.grid[1]
        self._text = TextMemory(list(path.vace_blocks))
        self._new_prompt = True
        self._references: ReferenceRows | None = None
        self._control: Tensor | None = None
        self._nothing: Tensor | None = None
        self._entries: dict[Given, Tensor] = {}
        self._rotations: dict[tuple[int, int], Rotation] = {}
        self._frames = 0
        self._row_factors: tuple[tuple[float, ...], Tensor] | None = None
        self.scale = scale

    # --- told by the session, between chunks --------------------------------------------------------------------------

    def set_prompt(self) -> None:
        """Another prompt is in force from the next pass on; its tokens come with the pass."""
        self._new_prompt = True

    def set_references(self, references: References | None) -> None:
        """Use these references from the next pass on, or none."""
        held = None if references is None else ReferenceRows(self.path, self._patch_embedding, references)
        self._references = held
        self._entries.clear()

    def set_chunk(self, control: Tensor | None, nothing: Tensor) -> None:
        """Take the control latents of the next chunk.

        Args:
            control: [B, 96, F, h, w], or None where nothing was given.
            nothing: [B, 96, F, h, w]: what "nothing given" encodes to.
        """
        self._control, self._nothing = control, nothing
        self._frames = nothing.shape[2]
        self._entries.clear()

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

    # --- asked by the base model's loop, for every pass ---------------------------------------------------------------

    def source(self, step: int, sigma: float) -> HintSource | None:
        """Hints of a pass.

        Args:
            step: number of the pass within a chunk; passes of one number have one timestep for the whole stream.
            sigma: its noise level in [0, 1].

        Returns:
            None where no hint would be added (nothing given, or every scale 0): the context path does not run then.
        """
        parts = self.scale.parts(control=self._control is not None, references=self._references is not None)
        return partial(self._hints, parts=parts, step=step, sigma=sigma) if parts else None

    def _hints(self, inputs: BlockInputs, *, parts: Sequence[Part], step: int, sigma: float) -> Hints:
        rows = self._frames * self._frame_tokens
        if inputs.hidden.shape[1] != rows:
            raise AttachError(f"the base's chunk has {inputs.hidden.shape[1]} tokens, its control latents {rows}")
        dtype = self.path.dtype
        own = BlockInputs(inputs.hidden.to(dtype), inputs.modulation, inputs.text.to(dtype))
        if self._new_prompt:
            self._take_prompt(own.text)
        total: list[Tensor] = []
        for factor, control, references in parts:
            hints = self._run(own, step, sigma, control=control, references=references)
            hints = hints if factor == 1.0 else [hint * factor for hint in hints]
            total = [a + b for a, b in zip(total, hints, strict=True)] if total else hints
        return {layer: hint.to(inputs.hidden.dtype) for layer, hint in self._weighted(total)}

    def _take_prompt(self, text: Tensor) -> None:
        self._text.write(text)
        if self._references is not None:
            self._references.forget()
        self._new_prompt = False

    def tensors(self) -> dict[str, Tensor]:
        """Every buffer that outlives a pass, by name."""
        references = {} if self._references is None else self._references.tensors()
        return {**self._text.tensors(), **references}

    # --- one context pass ---------------------------------------------------------------------------------------------

    def _run(self, inputs: BlockInputs, step: int, sigma: float, *, control: bool, references: bool) -> list[Tensor]:
        """Unscaled hints of the chunk rows, with or without the control and the references."""
        held = self._references if references else None
        if held is None or self.form == "references_only":
            given: Given = "control" if control else "references" if held else "nothing"
            return self._blocks(self._rows(given, inputs), inputs, self._rotation(0, self._frames))
        chunk_rows = self._rows("control" if control else "nothing", inputs)
        if self.form == "joint":
            rows = torch.cat([held.at(sigma), chunk_rows], dim=1)
            skip = held.count * self._frame_tokens
            return self._blocks(rows, inputs, self._rotation(0, held.count + self._frames), skip=skip)
        memory = held.remembered(step, sigma, inputs, self._text, self._rotation(0, held.count))
        return self._blocks(chunk_rows, inputs, self._rotation(held.count, self._frames), memory)

    def _blocks(
        self,
        rows: Tensor,
        inputs: BlockInputs,
        rotation: Rotation,
        memory: Sequence[ReferenceLayer] | None = None,
        skip: int = 0,
    ) -> list[Tensor]:
        """Run rows [B, N, D] through the context blocks, as far as a hint is wanted; hints of the rows past `skip`."""
        hints = []
        for i in range(self._depth()):
            block: Any = self.path.vace_blocks[i]
            remembered = None if memory is None else memory[i]
            rows = block(rows, inputs.modulation, self._text[i], rotation, self.path.attends[i], remembered)
            hints.append(block.proj_out(rows[:, skip:]))
        return hints

    def _rows(self, given: Given, inputs: BlockInputs) -> Tensor:
        """Chunk rows as they enter block 0: [B, L, D]. Their projected control tokens are computed once per chunk."""
        if given not in self._entries:
            self._entries[given] = self.path.entry(self._latents(given).to(self.path.dtype))
        return self._entries[given] + inputs.hidden

    def _latents(self, given: Given) -> Tensor:
        assert self._nothing is not None
        if given == "control":
            assert self._control is not None
            return self._control
        if given == "references":
            assert self._references is not None
            shown = self._references.control
            return torch.cat([shown, self._nothing[:, :, shown.shape[2] :]], dim=2)
        return self._nothing

    def _rotation(self, start: int, frames: int) -> Rotation:
        if (start, frames) not in self._rotations:
            self._rotations[start, frames] = self._rope.at(range(start, start + frames))
        return self._rotations[start, frames]

    # --- factors ------------------------------------------------------------------------------------------------------

    def _depth(self) -> int:
        """Context blocks to run: none after the last whose factor is not 0."""
        factors = self.scale.layers or (1.0,) * len(self.path.layers)
        return 1 + max(i for i, factor in enumerate(factors) if factor > 0)

    def _weighted(self, hints: list[Tensor]) -> list[tuple[int, Tensor]]:
        """Base block and hint, with the factors by layer and by frame applied; layers of factor 0 left out."""
        factors = self.scale.layers or (1.0,) * len(hints)
        kept = [(layer, h, f) for layer, h, f in zip(self.path.layers, hints, factors, strict=False) if f > 0]
        if self.scale.frames is not None:
            rows = self._frame_factors(self.scale.frames[: self._frames], hints[0])
            kept = [(layer, hint * rows, factor) for layer, hint, factor in kept]
        return [(layer, hint if factor == 1.0 else hint * factor) for layer, hint, factor in kept]

    def _frame_factors(self, factors: tuple[float, ...], like: Tensor) -> Tensor:
        """Factors by frame as factors by token [1, L, 1], made once for as long as they hold."""
        if self._row_factors is None or self._row_factors[0] != factors:
            frames = torch.tensor(factors, dtype=like.dtype).to(like.device)
            self._row_factors = factors, repeat(frames, "f -> 1 (f t) 1", t=self._frame_tokens)
        return self._row_factors[1]
