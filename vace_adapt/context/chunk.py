"""The context path over one chunk: its control tokens, and the hints of its passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from einops import repeat
from torch import Tensor

from vace_adapt.attention.rope import Rotation
from vace_adapt.cache.text import TextMemory
from vace_adapt.compiling import mark_growing
from vace_adapt.context.blocks import ReferenceLayer
from vace_adapt.context.parts import Part, parts
from vace_adapt.context.past import Past
from vace_adapt.context.reuse import StepScales, made_at
from vace_adapt.context.slots import ReferencesInSlots
from vace_adapt.context.stream import ContextStream
from vace_adapt.contract import BlockInputs, Hints, HintSource, Level
from vace_adapt.errors import AttachError, SessionError

Given = Literal["control", "nothing"] | tuple[int, ...]
"""What stands at the chunk's positions, and at those of the frames in front of it, in the context sequence; for
`references_only` also some references.
"""


class ChunkContext:
    """What was given for one chunk. It keeps the scale, the references and the prompt that held when it was made.

    Everything that depends on scales is decided and brought to the device here, so that passes never wait for it.

    Args:
        stream: what the chunks share.
        shape: B and F of the chunk.
        control: control latents [B, 96, F, h, w], or None where nothing was given.
        nothing: makes [B, 96, F, h, w]: what "nothing given" encodes to. Called here, where a pass will need it.
        chunk: its number, for schedules.
        control_factors: [S, B, F, rows, columns] within 0..100, S being 1 or the number of denoise steps: multiplies
            the control's scale token by token; None for 1.
        hint_reuse: hints are made anew at every hint_reuse-th denoise step, and added again at the steps between.
        past: the k latent frames in front of the chunk, as rows of its context sequence; None where a stream has no
            such rows.

    Attributes:
        control: as given.

    Raises:
        InputError: factors that do not fit the chunk.
    """

    def __init__(
        self,
        stream: ContextStream,
        shape: tuple[int, int],
        control: Tensor | None,
        nothing: Callable[[], Tensor],
        *,
        chunk: int = 0,
        control_factors: Tensor | None = None,
        hint_reuse: int = 1,
        past: Past | None = None,
    ) -> None:
        self.control = control
        self._stream = stream
        self._path = stream.path
        self._text = stream.text
        self._layer_factors = stream.scale.layers or (1.0,) * len(stream.path.layers)
        self._batch, self._frames = shape
        self._past = past if past is not None and past.count else None
        self._before = 0 if self._past is None else self._past.count
        self._growing = past is not None and stream.path.compiled
        self._entries: dict[Given, Tensor] = {}
        self._key = object()
        scales = self._scales(chunk, control is not None, control_factors)
        self._steps = [parts(*own, self._path.device) for own in scales]
        self._made_at = made_at(scales, hint_reuse)
        needed = [part for step in self._steps for part in step]
        sets = {part.references for part in needed}
        self._references = {chosen: stream.references(chosen) for chosen in sets if chosen}
        self._rotations = {chosen: self._rotations_with(len(chosen)) for chosen in sets}
        heard = [tuple(references) for _, references in scales]
        self._slots = ReferencesInSlots(stream, heard) if stream.slots and any(map(any, heard)) else None
        self._given: dict[Given, Tensor] = {}
        if control is not None:
            self._given["control"] = self._with_past(control, lambda past: past.control)
        if any(not part.control for part in needed):
            self._given["nothing"] = empty = self._with_past(nothing(), lambda past: past.nothing())
            if stream.form == "references_only":
                for chosen, held in self._references.items():
                    self._given[chosen] = torch.cat([held.control, empty[:, :, held.count :]], dim=2)
        self._row_factors = None if stream.scale.frames is None else self._by_token(stream.scale.frames)

    @property
    def runs(self) -> bool:
        """Whether any hint will be added."""
        return any(self._steps)

    def source(self, step: int, sigma: Level, *, negative: bool = False) -> HintSource | None:
        """Hints of a pass, and the references that the base's self-attention sees in it.

        Args:
            step: number of the pass within a chunk. -1 is the clean pass, whose scales are those of the last denoise
                step.
            sigma: its noise level in [0, 1].
            negative: whether it is the step's pass under the negative prompt; it sees no references in slots.

        Returns:
            None where no hint would be added (nothing given, or every scale 0): the context path does not run then.

        Raises:
            SessionError: there is no such step.
        """
        if not -1 <= step < len(self._steps):
            raise SessionError(f"denoise step {step} was not declared: parts.steps is {len(self._steps)}")
        if not self._steps[step]:
            return None
        hints = partial(self._hints, step=step, sigma=sigma, negative=negative)
        return HintSource(hints, None if negative or self._slots is None else self._slots.seen(step, sigma))

    def _hints(self, inputs: BlockInputs, *, step: int, sigma: Level, negative: bool) -> Hints:
        """Made now, or at an earlier step of the chunk that this one shares them with."""
        came, own = tuple(inputs.hidden.shape[:2]), (self._batch, self._frames * self._stream.frame_tokens)
        if came != own:
            raise AttachError(f"the base's chunk has {came} rows and tokens, its control latents {own}")
        last = self._stream.last_negative if negative else self._stream.last_hints
        first = step if step < 0 else self._made_at[step]
        if first < step and (found := last.of(self._key, first)) is not None:
            return found
        last.drop(self._key)
        hints = self._made(inputs, step, sigma, negative)
        if step >= 0 and self._made_at.count(first) > 1:
            last.keep(self._key, first, hints)
        return hints

    def _made(self, inputs: BlockInputs, step: int, sigma: Level, negative: bool) -> Hints:
        base_dtype, dtype = inputs.hidden.dtype, self._path.dtype
        text = self._stream.negative if negative else self._text
        inputs = self._stream.entering(inputs, text)
        if self._past is not None:
            tokens = self._past.tokens(self._stream.patch_embedding, sigma)
            inputs = BlockInputs(torch.cat([tokens.to(dtype), inputs.hidden], dim=1), inputs.modulation, inputs.text)
        total: list[Tensor] = []
        for part in self._steps[step]:
            hints = self._part(part, inputs, step, sigma, text)
            total = [a + b for a, b in zip(total, hints, strict=True)] if total else hints
        return {layer: hint.to(base_dtype) for layer, hint in self._weighted(total)}

    # --- one context pass ---------------------------------------------------------------------------------------------

    def _part(self, part: Part, inputs: BlockInputs, step: int, sigma: Level, text: TextMemory) -> list[Tensor]:
        """Hints of the chunk rows, with what the part has, times its factor."""
        stream, held = self._stream, self._references.get(part.references)
        rotations = self._rotations[part.references]
        given: Given = "control" if part.control else "nothing"
        if held is None or stream.form == "references_only":
            rows = self._rows(given if held is None else part.references, inputs)
            hints = self._blocks(rows, inputs, text, rotations[-1])
        elif stream.form == "joint":
            rows = torch.cat([held.at(sigma), self._rows(given, inputs)], dim=1)
            hints = self._blocks(rows, inputs, text, rotations[-1])
        else:
            memory = held.remembered(step, sigma, inputs, text, rotations[0], negative=text is self._stream.negative)
            hints = self._blocks(self._rows(given, inputs), inputs, text, rotations[-1], memory)
        return [_scaled(hint, part.factor) for hint in hints]

    def _blocks(
        self,
        rows: Tensor,
        inputs: BlockInputs,
        text: TextMemory,
        rotation: Rotation,
        memory: Sequence[ReferenceLayer] | None = None,
    ) -> list[Tensor]:
        """Run rows [B, N, D] through the context blocks, as far as a hint is wanted; hints of the chunk's, the last."""
        hints, own = [], self._frames * self._stream.frame_tokens
        if self._growing:
            for tensor, dim in ((rows, 1), (rotation.cos, 0), (rotation.sin, 0)):
                mark_growing(tensor, dim)
        for i in range(1 + max(i for i, factor in enumerate(self._layer_factors) if factor > 0)):
            block: Any = self._path.vace_blocks[i]
            remembered = None if memory is None else memory[i]
            rows = block(rows, inputs.modulation, text[i], rotation, self._path.attends[i], remembered)
            hints.append(block.proj_out(rows[:, -own:]))
        return hints

    def _rows(self, given: Given, inputs: BlockInputs) -> Tensor:
        """Rows of the past and of the chunk as they enter block 0: [B, k*T + L, D]. Their projected control tokens are
        computed once per chunk.
        """
        if given not in self._entries:
            self._entries[given] = self._path.entry(self._given[given].to(self._path.dtype))
        return self._entries[given] + inputs.hidden

    def _weighted(self, hints: list[Tensor]) -> list[tuple[int, Tensor]]:
        """Base block and hint, with the factors by layer and by frame applied; layers of factor 0 left out."""
        kept = zip(self._path.layers, hints, self._layer_factors, strict=False)
        rows = self._row_factors
        return [(layer, _scaled(h if rows is None else h * rows, factor)) for layer, h, factor in kept if factor > 0]

    # --- made with the chunk ------------------------------------------------------------------------------------------

    def _scales(self, chunk: int, controlled: bool, factors: Tensor | None) -> list[StepScales]:
        """Scales of the inputs at every denoise step."""
        stream = self._stream
        if controlled:
            controls = stream.control_scales(chunk, (self._batch, self._frames), factors)
        else:
            controls = [torch.zeros((), dtype=torch.float64, device="cpu")] * stream.steps
        found = []
        for step, control in enumerate(controls):
            common = stream.scale.references_at(chunk, step)
            found.append((control, [common * scale for scale in stream.reference_scales]))
        return found

    def _with_past(self, own: Tensor, of_past: Callable[[Past], Tensor]) -> Tensor:
        """Control latents of the chunk [B, 96, F, h, w], those of the frames in front of it first."""
        return own if self._past is None else torch.cat([of_past(self._past).to(own), own], dim=2)

    def _rotations_with(self, references: int) -> tuple[Rotation, ...]:
        """Of the reference rows, where they are remembered; of the rows of a pass."""
        rotation, form, gap = self._stream.rotation, self._stream.form, 0 if self._past is None else self._past.gap
        first = references if form == "cached" else 0
        front = self._before + (references if form == "joint" else 0)
        rows = rotation(first, front + self._frames)
        if gap:
            own = rotation(first + front + gap, self._frames)
            rows = Rotation(*map(torch.cat, zip(rotation(first, front), own, strict=True)))
        return (rotation(0, references), rows) if references and form == "cached" else (rows,)

    def _by_token(self, factors: tuple[float, ...]) -> Tensor:
        """Factors by frame as factors by token [1, L, 1]."""
        frames = torch.tensor(factors[: self._frames], dtype=self._path.dtype).to(self._path.device)
        return repeat(frames, "f -> 1 (f t) 1", t=self._stream.frame_tokens)


def _scaled(hint: Tensor, factor: float | Tensor) -> Tensor:
    """In the hint's dtype; a factor by token gives the bits that the same number for all tokens gives."""
    if isinstance(factor, Tensor):
        return (hint * factor).to(hint.dtype)
    return hint if factor == 1.0 else hint * factor
