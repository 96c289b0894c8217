"""Where hints enter a base model. Shapes: B batch, L tokens of a chunk, N rows of a block's sequence, D model width."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


Level = float | tuple[float, ...]
"""A noise level in [0, 1]: of all batch rows, or one for each."""


@dataclass(frozen=True)
class BlockInputs:
    """What the context path needs from the base model, read where the chunk enters block 0.

    Attributes:
        hidden: [B, L, D] tokens of the chunk, in the base's dtype.
        modulation: [B, 6, D] timestep projection, before a block adds its own table. One timestep for each batch row.
        text: [B, T, D] prompt tokens after the base's text embedding.
    """

    hidden: Tensor
    modulation: Tensor
    text: Tensor


Hints = Mapping[int, "Tensor"]
"""Scaled hints by base block index; each [B, L, D] is added to the chunk rows of that block's output."""

ComputesHints = Callable[[BlockInputs], Hints]
"""Computes the hints of one forward pass; called once, where its tokens enter block 0."""


@dataclass(frozen=True)
class SlotReferences:
    """References that take part in the base's self-attention in one pass (capability ``reference_slots``).

    The base runs over `latents` as over R latent frames that see themselves only, at the pass's own timestep and with
    `hints`. The keys and values of its blocks are then visible to the pass's chunk, too; where the chunk begins at
    temporal position ``start``, reference r is at ``start - R + r``.

    Attributes:
        step: number of the denoise step; -1 is the clean pass.
        count: R.
        made_of: with equal values, `latents` and `hints` of a step are the same bit for bit under one prompt, so what
            the base made of them may be reused.
        latents: makes [B, C, R, h, w] in the base's dtype, noised to the pass's level.
        hints: those of the reference rows.
    """

    step: int
    count: int
    made_of: Hashable
    latents: Callable[[], Tensor]
    hints: ComputesHints


@dataclass(frozen=True)
class HintSource:
    """What the control gives to one forward pass over a chunk. Called, it computes the pass's hints.

    Attributes:
        hints: computes them.
        references: what the pass sees from reserved slots of the cache; None for nothing.
    """

    hints: ComputesHints
    references: SlotReferences | None = None

    def __call__(self, inputs: BlockInputs) -> Hints:
        return self.hints(inputs)


Attend = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""Attention of a context block: query [B, L, H, d], key and value [B, K, H, d] (rotated) to [B, L, H, d]."""


@dataclass(frozen=True)
class BlockSite:
    """One transformer block of a base model, as data plus three pure functions.

    Attributes:
        path: dotted path from the model, as `nn.Module.get_submodule` takes it.
        read: positional and keyword arguments of the block's call to `BlockInputs`.
        hidden: the block's output to its hidden states [B, N, D]; the chunk's tokens are the last L of the N rows.
        write: the block's output and new hidden states to an output of the same structure.
    """

    path: str
    read: Callable[[tuple[Any, ...], Mapping[str, Any]], BlockInputs]
    hidden: Callable[[Any], Tensor]
    write: Callable[[Any, Tensor], Any]


@dataclass(frozen=True)
class BlockMap:
    """Where the blocks of a base model are, in execution order, and the module that makes tokens of latents.

    Attributes:
        sites: every transformer block, in the order the model runs them.
        patch_embedding: dotted path of the Conv3d from latents [B, C, F, h, w] to [B, D, F, h/2, w/2].
    """

    sites: tuple[BlockSite, ...]
    patch_embedding: str
