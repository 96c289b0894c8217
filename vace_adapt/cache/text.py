"""Keys and values of a prompt for a stack of blocks: computed once per prompt, kept in fixed buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vace_adapt.attention.plain import text_projections


class TextLayer(NamedTuple):
    """The prompt as one block sees it.

    Attributes:
        tokens: [B, T, D] text tokens, the same tensor for every block.
        key, value: [B, T, H, d] of this block.
    """

    tokens: Tensor
    key: Tensor
    value: Tensor


class TextMemory:
    """Text attention keys and values of every block of a stack, for the prompt now in force.

    Args:
        blocks: modules whose ``attn2`` attends to the prompt.

    Attributes:
        version: grows with every prompt written.
        written: whether it holds the prompt in force.
    """

    def __init__(self, blocks: Sequence[Any]) -> None:
        self._attentions = [block.attn2 for block in blocks]
        self._layers: list[TextLayer] = []
        self.version = 0
        self.written = False

    def reserve(self, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> TextMemory:
        """Allocate the buffers before the first prompt; returns itself."""
        for attention in self._attentions:
            heads, width = attention.heads, attention.inner_dim
            key, value = (
                torch.zeros((batch, length, heads, width // heads), dtype=dtype, device=device) for _ in range(2)
            )
            tokens = (
                self._layers[0].tokens
                if self._layers
                else torch.zeros((batch, length, width), dtype=dtype, device=device)
            )
            self._layers.append(TextLayer(tokens, key, value))
        return self

    def write(self, text: Tensor, rows: slice | None = None) -> None:
        """Compute every layer's key and value of text tokens [B, T, D]; in place where there are buffers.

        Args:
            text: the tokens.
            rows: the batch rows of the buffers that they are for; None for all.
        """
        self.version += 1
        self.written = True
        projected = [TextLayer(text, *text_projections(attention, text)) for attention in self._attentions]
        if not self._layers:
            self._layers = projected
            return
        for old, new in zip(self._layers, projected, strict=True):
            for buffer, values in zip(old, new, strict=True):
                (buffer if rows is None else buffer[rows]).copy_(values)

    def outdate(self) -> None:
        """Another prompt is in force, which is still to be written."""
        self.written = False

    def __getitem__(self, layer: int) -> TextLayer:
        return self._layers[layer]

    def row(self, row: int) -> tuple[TextLayer, ...]:
        """The prompt of one batch row, for every block; views."""
        return self.rows(slice(row, row + 1))

    def rows(self, rows: slice) -> tuple[TextLayer, ...]:
        """The prompts of some batch rows, for every block; views."""
        return tuple(TextLayer(*(tensor[rows] for tensor in layer)) for layer in self._layers)

    def tensors(self) -> dict[str, Tensor]:
        """The buffers by name."""
        named = {
            f"text.{i}.{name}": tensor
            for i, layer in enumerate(self._layers)
            for name, tensor in (("key", layer.key), ("value", layer.value))
        }
        return {"text.tokens": self._layers[0].tokens, **named} if self._layers else named

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the prompt in force."""
        return {name: tensor.clone() for name, tensor in self.tensors().items()}

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Put a `snapshot` back into the same buffers."""
        self.version += 1
        for name, tensor in self.tensors().items():
            tensor.copy_(snapshot[name])

    def reset(self) -> None:
        """No prompt."""
        self.version += 1
        for tensor in self.tensors().values():
            tensor.zero_()
