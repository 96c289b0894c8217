"""The native base model as the loop's denoiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from vace_adapt.cache.ring import LayerCache, SlotLayer
from vace_adapt.compiling import eagerly
from vace_adapt.contract import HintSource, SlotReferences
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_streamdiffusion.cache import StreamDiffusionCache
from vace_adapt_streamdiffusion.plan import Use
from vace_adapt_streamdiffusion.ring_layer import LayerRing


class NativeDenoiser:
    """`CausalWan` with the memory of one stream (`vace_adapt_streamdiffusion.loop.Denoiser`)."""

    def __init__(self, model: CausalWan, cache: StreamDiffusionCache) -> None:
        self.model = model
        self.cache = cache

    def set_prompt(self, block: int, number: int, prompt_embeds: Tensor) -> None:
        if self.cache.prompts[block] != number:
            self.cache.text.write(self.model.embed_text(prompt_embeds), self.cache.rows(block))
            self.cache.prompts[block] = number

    def __call__(
        self,
        latents: Tensor,
        timesteps: Tensor,
        block: int,
        uses: Sequence[Use],
        hints: HintSource | None,
        references: Sequence[SlotReferences | None],
    ) -> Tensor:
        ring = self.cache.ring
        given = zip(references, timesteps.chunk(len(uses)), strict=True)
        made = [
            None if seen is None else self._made_of(seen, own, number)
            for number, (seen, own) in enumerate(given, block)
        ]
        step = ring.chunk_pass(block, uses)

        def layer(index: int) -> LayerRing:
            return ring.layer(index, step, [None if seen is None else seen(index) for seen in made])

        return self.model(latents, timesteps, self.cache.text.rows(step.rows), layer, hints)

    def spread(self) -> None:
        self.cache.ring.spread()

    def rebuild(self, row: int, latents: Tensor, start: int, position: int) -> None:
        ring = self.cache.ring
        step = ring.rebuilding_pass(row, start, latents.shape[2], position)
        with eagerly(ring.compiled):
            self.model(latents, latents.new_zeros(1), self.cache.text.rows(step.rows), partial(ring.layer, step=step))
        ring.spread(row)

    def _made_of(self, references: SlotReferences, timesteps: Tensor, block: int) -> Callable[[int], SlotLayer]:
        """What each layer makes of the references at these timesteps, under the prompt of a block of rows; the base
        runs over them only if that is new.
        """
        prompt = self.cache.prompts[block]

        def run(layers: Callable[[int], LayerCache]) -> None:
            with eagerly(self.cache.ring.compiled):
                text = self.cache.text.rows(self.cache.rows(block))
                self.model(references.latents(), timesteps, text, layers, references.hints)

        assert self.cache.slots is not None
        assert prompt is not None
        return self.cache.slots.take(references, prompt, run)
