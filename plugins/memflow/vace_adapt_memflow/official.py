"""A live `CausalWanModel` of the official repository as the loop's denoiser (layout ``official``).

The object is the user's, built with KlingTeam/MemFlow (wan/modules/causal_model.py). Its blocks take ``(x, **kwargs)``
with ``e`` [B, F, 6, D] and ``context`` [B, T, D], and return ``(x, cache_update)``. Its own code keeps its own memory;
here are only the buffers it expects and the calls: with ``update_cache`` a pass is kept, with ``q_bank`` the bank first
takes in the frame on offer. Hints enter through core's hooks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from vace_adapt.contract import BlockInputs, BlockMap, BlockSite, HintSource, Stream
from vace_adapt.errors import Unsupported
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt_memflow.official_cache import OfficialCache
from vace_adapt_memflow.settings import MemFlowSettings

_one_call_at_a_time = threading.RLock()
"""The size of its attention is an attribute of the model, so streams in several threads take turns."""


def official_blocks(model: nn.Module) -> BlockMap:
    """The block sites of a `CausalWanModel`, bare or wrapped by peft."""
    count = len(list(model.get_submodule("blocks").children()))
    sites = tuple(BlockSite(f"blocks.{i}", _read, _hidden, _write) for i in range(count))
    return BlockMap(sites, patch_embedding="patch_embedding")


def _read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BlockInputs:
    """All frames of a chunk share a timestep, so the first frame's modulation stands for the chunk."""
    return BlockInputs(args[0], kwargs["e"][:, 0], kwargs["context"])


def _hidden(output: Any) -> Tensor:
    hidden, _ = output
    return hidden


def _write(output: Any, hidden: Tensor) -> Any:
    _, cache_update = output
    return hidden, cache_update


class OfficialDenoiser:
    """The live model with the memory of one stream (`vace_adapt_memflow.loop.Denoiser`)."""

    def __init__(self, model: nn.Module, schedule: FewStepSchedule, stream: Stream, settings: MemFlowSettings) -> None:
        self.model = model
        self.schedule = schedule
        self.stream = stream
        self.settings = settings
        self.cache: OfficialCache = stream.cache
        self._prompt: Tensor | None = None
        self._recall = False

    def set_prompt(self, prompt_embeds: Tensor) -> None:
        self._prompt = prompt_embeds
        self.cache.forget_prompt()

    def recall(self) -> None:
        self._recall = self._takes()

    def __call__(self, latents: Tensor, timestep: float, start: int, hints: HintSource | None) -> Tensor:
        recall, self._recall = self._recall, False
        return self._call(latents, timestep, start, hints, q_bank=recall)

    def commit(self, latents: Tensor, timestep: float, chunk: int, start: int, hints: HintSource | None) -> None:
        offered = self.settings.memory == "single" or chunk % self.settings.record_interval == 0
        self._call(latents, timestep, start, hints, update_cache=True, update_bank=offered)
        self.cache.committed(latents, start, offered=offered)

    def recache(self, timestep: float, *, keep_sink: bool, hints: HintSource | None) -> None:
        cache, quirks = self.cache, self.settings.official_quirks
        start, latents = cache.recent.newest()
        if not quirks:
            self._read_prompt(timestep)
        if not keep_sink:
            cache.restart(start)
        self._call(latents, timestep, start, hints, q_bank=self._takes(), update_cache=True, is_recache=True)
        if quirks:
            cache.forget_prompt()

    def rebuild(self, row: int, latents: Tensor, timestep: float) -> None:
        raise Unsupported("layout 'official' cannot be re-anchored: its attention reads as many memories in every row")

    def _takes(self) -> bool:
        return self.settings.official_quirks or self.cache.waiting

    def _read_prompt(self, timestep: float) -> None:
        """Let the model compute the prompt's keys, in a pass that changes nothing else, so that the bank can be asked
        with them.
        """
        frames = self.settings.chunk_latents
        start, latents = self.cache.recent.newest()
        newest = start + latents.shape[2] - frames
        self._call(latents[:, :, -frames:], timestep, newest, None)

    def _call(
        self,
        latents: Tensor,
        timestep: float,
        start: int,
        hints: HintSource | None,
        *,
        q_bank: bool = False,
        update_cache: bool = False,
        update_bank: bool = False,
        is_recache: bool = False,
    ) -> Tensor:
        """One call of the model; what it keeps is named, and is nothing where nothing is."""
        cache = self.cache
        batch, _, frames, _, _ = latents.shape
        size = cache.slots * cache.frame_tokens
        before = cache.keys_before() if q_bank else None
        with _one_call_at_a_time, self.stream.injecting(hints), _attention_size(self.model, size):
            flow: Tensor = self.model(
                latents,
                t=self.schedule.tensor(timestep, batch)[:, None].expand(batch, frames),
                context=self._prompt,
                seq_len=size,
                kv_cache=cache.window,
                crossattn_cache=cache.text,
                current_start=start * cache.frame_tokens,
                cache_start=None,
                kv_bank=cache.bank,
                q_bank=q_bank,
                update_cache=update_cache,
                update_bank=update_bank,
                is_recache=is_recache,
            )
        cache.own_text()
        if before is not None:
            cache.taken(before)
        return flow


@contextmanager
def _attention_size(model: nn.Module, tokens: int) -> Iterator[None]:
    """Let every self-attention see the whole window.

    The official pipeline sets the same attribute (``_set_all_modules_max_attention_size``) and leaves it changed.
    """
    attentions: list[Any] = [block.self_attn for block in model.get_submodule("blocks").children()]
    before = [attention.max_attention_size for attention in attentions]
    for attention in attentions:
        attention.max_attention_size = tokens
    try:
        yield
    finally:
        for attention, size in zip(attentions, before, strict=True):
            attention.max_attention_size = size
