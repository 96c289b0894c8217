"""The native base model as the loop's denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from vace_adapt.contract import HintSource
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_streamdiffusion.cache import StreamDiffusionCache
from vace_adapt_streamdiffusion.ring import Use


class NativeDenoiser:
    """`CausalWan` with the memory of one stream."""

    def __init__(self, model: CausalWan, cache: StreamDiffusionCache) -> None:
        self.model = model
        self.cache = cache

    def set_prompt(self, block: int, number: int, prompt_embeds: Tensor) -> None:
        if self.cache.prompts[block] != number:
            self.cache.text.write(self.model.embed_text(prompt_embeds), self.cache.rows(block))
            self.cache.prompts[block] = number

    def __call__(
        self, latents: Tensor, timesteps: Tensor, block: int, uses: Sequence[Use], hints: HintSource | None
    ) -> Tensor:
        ring = self.cache.ring
        step = ring.chunk_pass(block, uses)
        return self.model(latents, timesteps, self.cache.text.rows(step.rows), partial(ring.layer, step=step), hints)

    def spread(self) -> None:
        self.cache.ring.spread()
