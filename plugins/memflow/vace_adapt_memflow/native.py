"""The native base model as the loop's denoiser.

A denoise pass writes its keys and values where the chunk's own will be, over frames that this chunk evicts, and nowhere
else; the clean pass writes them again. So nothing of a denoise pass is ever seen by a later chunk, and the bank is
offered what the clean pass has written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from vace_adapt.cache.ring import LayerCache, SlotLayer
from vace_adapt.compiling import eagerly
from vace_adapt.contract import HintSource, SlotReferences
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt_memflow.cache import MemFlowCache


class NativeDenoiser:
    """`CausalWan` with the memory of one stream.

    Args:
        model: the base.
        schedule: the denoise steps.
        cache: the memory.
        quirks: ask with a prompt of zeros after a switch (`MemFlowSettings.official_quirks`).
    """

    def __init__(self, model: CausalWan, schedule: FewStepSchedule, cache: MemFlowCache, *, quirks: bool) -> None:
        self.model = model
        self.schedule = schedule
        self.cache = cache
        self._quirks = quirks
        self._prompt_unread = False

    def set_prompt(self, prompt_embeds: Tensor) -> None:
        self.cache.text.write(self.model.embed_text(prompt_embeds))
        self._prompt_unread = True

    def recall(self) -> None:
        self._take()
        self._prompt_unread = False

    def __call__(self, latents: Tensor, timestep: float, start: int, hints: HintSource | None) -> Tensor:
        cache, frames = self.cache, latents.shape[2]
        references = None if hints is None else hints.references
        made = None if references is None else self._made_of(references, timestep)
        count = 0 if references is None else references.count
        step = cache.ring.chunk_pass(start, frames, count, bank=cache.bank.filled)
        return self._forward(latents, timestep, cache.layers(step, made), hints)

    def commit(self, latents: Tensor, timestep: float, chunk: int, start: int, hints: HintSource | None) -> None:
        self(latents, timestep, start, hints)
        self.cache.bank.offer(chunk, start)
        self.cache.recent.push(latents)

    def recache(self, timestep: float, *, keep_sink: bool, hints: HintSource | None) -> None:
        self._take()
        start, latents = self.cache.recent.newest()
        ring = self.cache.ring
        step = ring.recache_pass(start, latents.shape[2], keep_sink=keep_sink, bank=self.cache.bank.filled)
        with eagerly(ring.compiled):
            self._forward(latents, timestep, self.cache.layers(step), hints)

    def rebuild(self, row: int, latents: Tensor, timestep: float) -> None:
        start = self.cache.recent.replace(row, latents)
        self.cache.bank.empty(row)
        ring, tensor = self.cache.ring, self.schedule.tensor(timestep, 1)
        step = ring.recache_pass(start, latents.shape[2], keep_sink=False, batch_row=row)
        with eagerly(ring.compiled):
            self.model(latents, tensor, self.cache.text.row(row), partial(ring.layer, step=step, batch_row=row))

    def _take(self) -> None:
        unread = self._quirks and self._prompt_unread
        self.cache.bank.take(None if unread else lambda layer: self.cache.text[layer].key)

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
