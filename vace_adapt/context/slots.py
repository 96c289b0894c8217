"""References that the base's own self-attention sees, too, from reserved slots of its memory.

The base runs over the reference latents, noised to the step's level, as over rows that attend to themselves only; the
hints of these rows are those of the context path over the reference rows alone, whatever the form in which references
enter the chunk's own hints. All of it depends on references, their scales, prompt and step, not on the chunk, so the
base may remember what it made of them (`vace_adapt.contract.SlotReferences`). A schedule that changes their scale from
chunk to chunk makes the base run over them in each.

The base sees R references at the R temporal positions directly in front of each chunk, as batch VACE shows them to its
first latents. A reference of scale 0 is in no slot. One that is heard is seen whole; its scale acts on its rows' hints,
the factors by layer as well, those by frame and those by place of a control do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from vace_adapt.context.stream import ContextStream
from vace_adapt.contract import BlockInputs, Hints, Level, SlotReferences


class ReferencesInSlots:
    """The references in force, as the base sees them in the passes of a chunk.

    Args:
        stream: what the chunks share.
        scales: of each reference in force, for every denoise step; at some step one is not 0.
    """

    def __init__(self, stream: ContextStream, scales: Sequence[tuple[float, ...]]) -> None:
        heard = tuple(i for i, scale in enumerate(stream.reference_scales) if scale > 0)
        self._stream = stream
        self._text = stream.text
        self._scales = [tuple(each[i] for i in heard) for each in scales]
        self._layer_factors = stream.scale.layers or (1.0,) * len(stream.path.layers)
        self._given = stream.references_given
        self._rows = stream.references(heard)
        self._rotation = stream.rotation(0, len(heard))

    def seen(self, step: int, sigma: Level) -> SlotReferences | None:
        """What a pass sees at noise level `sigma`; None where no reference is heard."""
        scales = self._scales[step]
        if not any(scales):
            return None
        return SlotReferences(
            step=step,
            count=self._rows.count,
            made_of=(self._given, sigma, scales, self._layer_factors),
            latents=partial(self._rows.noised, sigma),
            hints=partial(self._hints, step=step, sigma=sigma),
        )

    def _hints(self, inputs: BlockInputs, *, step: int, sigma: Level) -> Hints:
        stream, base_dtype = self._stream, inputs.hidden.dtype
        inputs = stream.entering(inputs, self._text)
        remember = stream.form == "cached"
        hints = self._rows.hints(step, sigma, inputs, self._text, self._rotation, remember=remember)
        factors = zip(stream.path.layers, hints, self._layer_factors, strict=True)
        return {layer: self._scaled(hint, factor, step).to(base_dtype) for layer, hint, factor in factors if factor > 0}

    def _scaled(self, hint: Tensor, factor: float, step: int) -> Tensor:
        """Each reference's rows of a hint [B, R*T, D] times its own scale."""
        each = hint.chunk(self._rows.count, dim=1)
        return torch.cat([rows * (factor * scale) for rows, scale in zip(each, self._scales[step], strict=True)], dim=1)
