"""The reference rows of the context sequence, and what may be kept of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from vace_adapt.attention.rope import Rotation
from vace_adapt.cache.text import TextMemory
from vace_adapt.compiling import eagerly, mark_growing
from vace_adapt.context.blocks import ContextPath, ReferenceLayer
from vace_adapt.contract import BlockInputs, Level


@dataclass(frozen=True)
class References:
    """Encoded references of a stream.

    Attributes:
        control: [B, 96, R, h, w]: each reference's latent, normalised, then zero reactive and mask channels.
        latents: [B, C, R, h, w]: the same latents in the base's own normalisation.
        noise: [B, C, R, h, w]: standard normal, fixed for the stream; draw i is that of the i-th reference given.
    """

    control: Tensor
    latents: Tensor
    noise: Tensor

    @property
    def count(self) -> int:
        return self.control.shape[2]

    def noised(self, sigma: Level) -> Tensor:
        """Their latents at noise level `sigma`: [B, C, R, h, w]."""
        return noised(self.latents, self.noise, sigma)

    def only(self, chosen: Sequence[int]) -> References:
        """Some of them, as if no others had been given: their noise is numbered among themselves."""
        control, latents = (torch.stack([t[:, :, i] for i in chosen], dim=2) for t in (self.control, self.latents))
        return References(control, latents, self.noise[:, :, : len(chosen)])


def noised(latents: Tensor, noise: Tensor, sigma: Level) -> Tensor:
    """Latents at noise level `sigma`."""
    if isinstance(sigma, tuple):
        rows = torch.tensor(sigma, dtype=torch.float32).to(latents.device, latents.dtype).view(-1, 1, 1, 1, 1)
        return (1 - rows) * latents + rows * noise
    return (1 - sigma) * latents + sigma * noise


def noised_tokens(patch_embedding: Callable[[Tensor], Tensor], latents: Tensor, noise: Tensor, sigma: Level) -> Tensor:
    """The base's tokens [B, F*T, D] of latents [B, C, F, h, w] at noise level `sigma`."""
    return rearrange(patch_embedding(noised(latents, noise, sigma)), "b d f h w -> b (f h w) d")


class ReferenceRows:
    """Rows of some references, made for one stream.

    Args:
        path: the context blocks.
        patch_embedding: the base's own.
        references: what to make rows of.
    """

    def __init__(self, path: ContextPath, patch_embedding: Callable[[Tensor], Tensor], references: References) -> None:
        self._path = path
        self._blocks: Any = path.vace_blocks
        self._patch_embedding = patch_embedding
        self._references = references
        self._entry = path.entry(references.control.to(path.dtype))
        self._memory: dict[int | str, list[ReferenceLayer]] = {}
        self._made_for: dict[int | str, tuple[Level, TextMemory, int]] = {}

    @property
    def count(self) -> int:
        return self._references.count

    @property
    def control(self) -> Tensor:
        return self._references.control

    def noised(self, sigma: Level) -> Tensor:
        """The references' latents at noise level `sigma`: [B, C, R, h, w]."""
        return self._references.noised(sigma)

    def at(self, sigma: Level) -> Tensor:
        """The rows as they enter block 0 at noise level `sigma`: [B, R*T, D]."""
        held = self._references
        tokens = noised_tokens(self._patch_embedding, held.latents, held.noise, sigma)
        return self._entry + tokens.to(self._entry.dtype)

    def remembered(
        self,
        step: int,
        sigma: Level,
        inputs: BlockInputs,
        text: TextMemory,
        rotation: Rotation,
        *,
        negative: bool = False,
    ) -> list[ReferenceLayer]:
        """Keys and values of the rows attending to themselves only, in every context block.

        They depend on the references, the prompt and the noise level. Each step's are computed once and reused for as
        long as its level and the prompt stay; then anew, into the same buffers. A step's pass under the negative prompt
        has buffers of its own.
        """
        key = f"negative.{step}" if negative else step
        made_for = (sigma, text, text.version)
        if self._made_for.get(key) != made_for:
            self._compute(key, sigma, inputs, text, rotation)
            self._made_for[key] = made_for
        return self._memory[key]

    def hints(
        self, step: int, sigma: Level, inputs: BlockInputs, text: TextMemory, rotation: Rotation, *, remember: bool
    ) -> list[Tensor]:
        """Hints of the rows themselves [B, R*T, D], attending to themselves only, of every context block.

        Args:
            step, sigma, inputs, text, rotation: as for `remembered`.
            remember: whether what `remembered` gives of this step is made along with them.
        """
        with eagerly(self._path.compiled):
            behind = self._advance(sigma, inputs, text, rotation, self._reserved(step) if remember else None)
            hints = [block.proj_out(rows) for block, rows in zip(self._blocks, behind, strict=True)]
        if remember:
            self._made_for[step] = (sigma, text, text.version)
        return hints

    def tensors(self) -> dict[str, Tensor]:
        """The remembered buffers by name."""
        return {
            f"{step}.{i}.{name}": tensor
            for step, layers in self._memory.items()
            for i, layer in enumerate(layers)
            for name, tensor in zip(("key", "value"), layer, strict=True)
        }

    def _compute(self, key: int | str, sigma: Level, inputs: BlockInputs, text: TextMemory, rotation: Rotation) -> None:
        with eagerly(self._path.compiled):
            for _ in self._advance(sigma, inputs, text, rotation, self._reserved(key)):
                pass

    def _advance(
        self,
        sigma: Level,
        inputs: BlockInputs,
        text: TextMemory,
        rotation: Rotation,
        stores: Sequence[ReferenceLayer] | None,
    ) -> Iterator[Tensor]:
        """The rows behind each context block, attending to themselves only."""
        rows = self.at(sigma)
        for i, block in enumerate(self._blocks):
            store = None if stores is None else stores[i]
            rows = block(rows, inputs.modulation, text[i], rotation, self._path.attends[i], None, store)
            yield rows

    def _reserved(self, key: int | str) -> list[ReferenceLayer]:
        """The buffers of a step."""
        if key not in self._memory:
            shape = (*self._entry.shape[:2], self._path.backbone.heads, self._path.backbone.head_dim)
            self._memory[key] = [
                ReferenceLayer(self._entry.new_empty(shape), self._entry.new_empty(shape)) for _ in self._path.layers
            ]
            if self._path.compiled:
                for layer in self._memory[key]:
                    mark_growing(layer.key, 1)
                    mark_growing(layer.value, 1)
        return self._memory[key]
