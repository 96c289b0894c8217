"""The native base model as the loop's denoiser."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from vace_adapt.cache.ring import LayerCache, SlotLayer
from vace_adapt.compiling import eagerly
from vace_adapt.contract import HintSource, SlotReferences
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt_longlive.cache import LongLiveCache


class NativeDenoiser:
    """`CausalWan` with the memory of one stream."""

    def __init__(self, model: CausalWan, schedule: FewStepSchedule, cache: LongLiveCache) -> None:
        self.model = model
        self.schedule = schedule
        self.cache = cache

    def set_prompt(self, prompt_embeds: Tensor) -> None:
        self.cache.text.write(self.model.embed_text(prompt_embeds))

    def __call__(self, latents: Tensor, timestep: float, start: int, hints: HintSource | None) -> Tensor:
        ring, frames = self.cache.ring, latents.shape[2]
        references = None if hints is None else hints.references
        if references is None:
            return self._forward(latents, timestep, partial(ring.layer, step=ring.chunk_pass(start, frames)), hints)
        made = self._made_of(references, timestep)
        step = ring.chunk_pass(start, frames, references.count)

        def layer(index: int) -> LayerCache:
            return ring.layer(index, step, made(index))

        return self._forward(latents, timestep, layer, hints)

    def remember(self, latents: Tensor) -> None:
        self.cache.recent.push(latents)

    def recache(self, timestep: float, *, keep_sink: bool, hints: HintSource | None) -> None:
        start, latents = self.cache.recent.newest()
        ring = self.cache.ring
        step = ring.recache_pass(start, latents.shape[2], keep_sink=keep_sink)
        with eagerly(ring.compiled):
            self._forward(latents, timestep, partial(ring.layer, step=step), hints)

    def rebuild(self, row: int, latents: Tensor, timestep: float) -> None:
        start = self.cache.recent.replace(row, latents)
        ring, tensor = self.cache.ring, self.schedule.tensor(timestep, 1)
        step = ring.recache_pass(start, latents.shape[2], keep_sink=False, batch_row=row)
        with eagerly(ring.compiled):
            self.model(latents, tensor, self.cache.text.row(row), partial(ring.layer, step=step, batch_row=row))

    def _made_of(self, references: SlotReferences, timestep: float) -> Callable[[int], SlotLayer]:
        """What each block makes of the references at this timestep; the base runs over them only if that is new."""

        def run(layers: Callable[[int], LayerCache]) -> None:
            with eagerly(self.cache.ring.compiled):
                self._forward(references.latents(), timestep, layers, references.hints)

        assert self.cache.slots is not None
        return self.cache.slots.take(references, self.cache.text.version, run)

    def _forward(self, latents, timestep, layer_cache, hints):
        tensor = self.schedule.tensor(timestep, latents.shape[0])
        return self.model(latents, tensor, self.cache.text, layer_cache, hints)
