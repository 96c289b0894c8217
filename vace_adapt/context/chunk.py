"""The context path over one chunk: its control tokens, and the hints of its passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from einops import repeat
from torch import Tensor

from vace_adapt.attention.rope import Rotation
from vace_adapt.context.blocks import ReferenceLayer
from vace_adapt.context.stream import ContextStream
from vace_adapt.contract import BlockInputs, Hints, HintSource
from vace_adapt.controls import Part
from vace_adapt.errors import AttachError

Given = Literal["control", "nothing", "references"]
"""What stands at the chunk's positions in the context sequence."""


class ChunkContext:
    """What was given for one chunk. It keeps the scale and the references that held when it was made.

    Args:
        stream: what the chunks share.
        shape: B and F of the chunk.
        control: control latents [B, 96, F, h, w], or None where nothing was given.
        nothing: makes [B, 96, F, h, w]: what "nothing given" encodes to. Called here, where a pass will need it.
    """

    def __init__(
        self, stream: ContextStream, shape: tuple[int, int], control: Tensor | None, nothing: Callable[[], Tensor]
    ) -> None:
        self._stream = stream
        self._path = stream.path
        self._scale = stream.scale
        self._references = stream.references
        self._batch, self._frames = shape
        self._entries: dict[Given, Tensor] = {}
        self._row_factors: Tensor | None = None
        self._parts = self._scale.parts(control=control is not None, references=self._references is not None)
        self._given: dict[Given, Tensor] = {} if control is None else {"control": control}
        if any(not with_control for _, with_control, _ in self._parts):
            self._given["nothing"] = empty = nothing()
            if self._references is not None and stream.form == "references_only":
                shown = self._references.control
                self._given["references"] = torch.cat([shown, empty[:, :, shown.shape[2] :]], dim=2)

    @property
    def runs(self) -> bool:
        """Whether any hint will be added."""
        return bool(self._parts)

    def source(self, step: int, sigma: float) -> HintSource | None:
        """Hints of a pass.

        Args:
            step: number of the pass within a chunk; passes of one number have one timestep for the whole stream.
            sigma: its noise level in [0, 1].

        Returns:
            None where no hint would be added (nothing given, or every scale 0): the context path does not run then.
        """
        return partial(self._hints, step=step, sigma=sigma) if self.runs else None

    def _hints(self, inputs: BlockInputs, *, step: int, sigma: float) -> Hints:
        came, own = tuple(inputs.hidden.shape[:2]), (self._batch, self._frames * self._stream.frame_tokens)
        if came != own:
            raise AttachError(f"the base's chunk has {came} rows and tokens, its control latents {own}")
        base_dtype, dtype = inputs.hidden.dtype, self._path.dtype
        inputs = BlockInputs(inputs.hidden.to(dtype), inputs.modulation, inputs.text.to(dtype))
        self._stream.take_prompt(inputs.text)
        total: list[Tensor] = []
        for part in self._parts:
            hints = self._part(part, inputs, step, sigma)
            total = [a + b for a, b in zip(total, hints, strict=True)] if total else hints
        return {layer: hint.to(base_dtype) for layer, hint in self._weighted(total)}

    # --- one context pass ---------------------------------------------------------------------------------------------

    def _part(self, part: Part, inputs: BlockInputs, step: int, sigma: float) -> list[Tensor]:
        """Hints of the chunk rows, with or without the control and the references, times the part's factor."""
        factor, control, references = part
        stream, held = self._stream, self._references if references else None
        given: Given = "control" if control else "nothing"
        if held is None or stream.form == "references_only":
            rows = self._rows("references" if held else given, inputs)
            hints = self._blocks(rows, inputs, stream.rotation(0, self._frames))
        elif stream.form == "joint":
            rows = torch.cat([held.at(sigma), self._rows(given, inputs)], dim=1)
            rotation = stream.rotation(0, held.count + self._frames)
            hints = self._blocks(rows, inputs, rotation, skip=held.count * stream.frame_tokens)
        else:
            memory = held.remembered(step, sigma, inputs, stream.text, stream.rotation(0, held.count))
            rotation = stream.rotation(held.count, self._frames)
            hints = self._blocks(self._rows(given, inputs), inputs, rotation, memory)
        return hints if factor == 1.0 else [hint * factor for hint in hints]

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
            block: Any = self._path.vace_blocks[i]
            remembered = None if memory is None else memory[i]
            text, attend = self._stream.text[i], self._path.attends[i]
            rows = block(rows, inputs.modulation, text, rotation, attend, remembered)
            hints.append(block.proj_out(rows[:, skip:]))
        return hints

    def _rows(self, given: Given, inputs: BlockInputs) -> Tensor:
        """Chunk rows as they enter block 0: [B, L, D]. Their projected control tokens are computed once per chunk."""
        if given not in self._entries:
            self._entries[given] = self._path.entry(self._given[given].to(self._path.dtype))
        return self._entries[given] + inputs.hidden

    # --- factors ------------------------------------------------------------------------------------------------------

    def _depth(self) -> int:
        """Context blocks to run: none after the last whose factor is not 0."""
        factors = self._scale.layers or (1.0,) * len(self._path.layers)
        return 1 + max(i for i, factor in enumerate(factors) if factor > 0)

    def _weighted(self, hints: list[Tensor]) -> list[tuple[int, Tensor]]:
        """Base block and hint, with the factors by layer and by frame applied; layers of factor 0 left out."""
        factors = self._scale.layers or (1.0,) * len(hints)
        kept = [(layer, h, f) for layer, h, f in zip(self._path.layers, hints, factors, strict=False) if f > 0]
        if self._scale.frames is not None:
            rows = self._frame_factors(self._scale.frames, hints[0])
            kept = [(layer, hint * rows, factor) for layer, hint, factor in kept]
        return [(layer, hint if factor == 1.0 else hint * factor) for layer, hint, factor in kept]

    def _frame_factors(self, factors: tuple[float, ...], like: Tensor) -> Tensor:
        """Factors by frame as factors by token [1, L, 1], made once per chunk."""
        if self._row_factors is None:
            frames = torch.tensor(factors[: self._frames], dtype=like.dtype).to(like.device)
            self._row_factors = repeat(frames, "f -> 1 (f t) 1", t=self._stream.frame_tokens)
        return self._row_factors
