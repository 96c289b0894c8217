"""Keys and values of a prompt for a stack of blocks: computed once per prompt, kept in fixed buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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
    """

    def __init__(self, blocks: Sequence[Any]) -> None:
        self._attentions = [block.attn2 for block in blocks]
        self._layers: list[TextLayer] = []

    def write(self, text: Tensor) -> None:
        """Compute every layer's key and value of text tokens [B, T, D]; in place after the first prompt."""
        projected = [TextLayer(text, *text_projections(attention, text)) for attention in self._attentions]
        if not self._layers:
            self._layers = projected
            return
        for old, new in zip(self._layers, projected, strict=True):
            for buffer, values in zip(old, new, strict=True):
                buffer.copy_(values)

    def __getitem__(self, layer: int) -> TextLayer:
        return self._layers[layer]

    def tensors(self) -> dict[str, Tensor]:
        """The buffers by name."""
        return {
            f"text.{i}.{name}": tensor
            for i, layer in enumerate(self._layers)
            for name, tensor in zip(("key", "value"), layer[1:], strict=True)
        }

    def snapshot(self) -> list[TextLayer]:
        """A copy of the prompt in force."""
        return [TextLayer(*(buffer.clone() for buffer in layer)) for layer in self._layers]

    def restore(self, snapshot: list[TextLayer]) -> None:
        """Put a `snapshot` back into the same buffers."""
        for old, new in zip(self._layers, snapshot, strict=True):
            for buffer, values in zip(old, new, strict=True):
                buffer.copy_(values)
