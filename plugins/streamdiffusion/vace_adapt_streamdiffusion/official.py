"""A live `CausalWanModel` of the official repository as the loop's denoiser (layout ``official``).

The object is the user's, built with chenfengxu714/StreamDiffusionV2 (models/wan/causal_model.py). Its blocks take
``(x, **kwargs)`` with ``e`` [B, F, 6, D] and ``context`` [B, T, D], and return ``x``. Its own code keeps the memory in
buffers that are given to it, and the order of their slots on the attention modules, where it is put for each call and
taken off again. Hints enter through core's hooks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vace_adapt.contract import BlockInputs, BlockMap, BlockSite, HintSource, SlotReferences, Stream
from vace_adapt_streamdiffusion.official_cache import OfficialCache, Rows
from vace_adapt_streamdiffusion.plan import Use, counted
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings

_one_call_at_a_time = threading.RLock()
"""The order of slots is an attribute of the model during a call, so streams in several threads take turns."""


def official_blocks(model: nn.Module) -> BlockMap:
    """The block sites of a `CausalWanModel`, bare or wrapped by peft."""
    count = len(list(model.get_submodule("blocks").children()))
    sites = tuple(BlockSite(f"blocks.{i}", _read, _hidden, _write) for i in range(count))
    return BlockMap(sites, patch_embedding="patch_embedding")


def _read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BlockInputs:
    """All frames of a chunk share a timestep, so the first frame's modulation stands for the chunk."""
    return BlockInputs(args[0], kwargs["e"][:, 0], kwargs["context"])


def _hidden(output: Any) -> Tensor:
    hidden: Tensor = output
    return hidden


def _write(output: Any, hidden: Tensor) -> Any:
    return hidden


class OfficialDenoiser:
    """The live model with the memory of one stream (`vace_adapt_streamdiffusion.loop.Denoiser`)."""

    def __init__(self, model: nn.Module, stream: Stream, settings: StreamDiffusionSettings) -> None:
        self.model = model
        self.stream = stream
        self.settings = settings
        self.cache: OfficialCache = stream.cache

    def set_prompt(self, block: int, number: int, prompt_embeds: Tensor) -> None:
        self.cache.set_prompt(block, number, prompt_embeds)

    def __call__(
        self,
        latents: Tensor,
        timesteps: Tensor,
        block: int,
        uses: Sequence[Use],
        hints: HintSource | None,
        references: Sequence[SlotReferences | None],
    ) -> Tensor:
        cache, frames = self.cache, uses[0].frames
        rows = cache.rows(block, len(uses))
        own, before = cache.own(rows), cache.before(rows)
        flow = self._call(own, latents, timesteps, [use.position for use in uses], hints)
        cache.read_prompts(own, rows)
        cache.written(rows, own, before, counted([use.start for use in uses], frames, cache.batch, latents.device))
        return flow

    def spread(self) -> None:
        self.cache.spread()

    def rebuild(self, row: int, latents: Tensor, start: int, position: int) -> None:
        cache, frames = self.cache, latents.shape[2]
        cache.empty(row, position * cache.frame_tokens, frames)
        self._call(cache.own(slice(row, row + 1)), latents, latents.new_zeros(1), [position], None)
        cache.rebuilt(row, start, frames)

    def _call(
        self, own: Rows, latents: Tensor, timesteps: Tensor, positions: Sequence[int], hints: HintSource | None
    ) -> Tensor:
        """One call of the model, over rows that begin at temporal positions, each for as many rows."""
        cache, (batch, _, frames, _, _) = self.cache, latents.shape
        begin = torch.tensor(positions, device=latents.device).repeat_interleave(batch // len(positions))
        begin = begin * cache.frame_tokens
        with _one_call_at_a_time, self.stream.injecting(hints), self._attention(own.evict):
            flow: Tensor = self.model(
                latents,
                t=timesteps[:, None].expand(batch, frames),
                context=own.prompt,
                seq_len=cache.layout.slots * cache.frame_tokens,
                kv_cache=own.window,
                crossattn_cache=own.text,
                current_start=begin,
                current_end=begin + frames * cache.frame_tokens,
            )
        return flow

    @contextmanager
    def _attention(self, evict: list[list[list[int]]]) -> Iterator[None]:
        """Let every self-attention have the stream's order of slots, and the settings' sink; then what it had before.

        The official pipeline sets the same attributes (``_initialize_kv_cache``) and leaves them changed.
        """
        attentions: list[Any] = [block.self_attn for block in self.model.get_submodule("blocks").children()]
        before = [(each.sink_size, each.adapt_sink_thr, each.evict_idx) for each in attentions]
        for attention, lists in zip(attentions, evict, strict=True):
            attention.sink_size, attention.adapt_sink_thr = self.settings.sink, self.settings.sink_threshold
            attention.evict_idx = lists
        try:
            yield
        finally:
            for attention, had in zip(attentions, before, strict=True):
                attention.sink_size, attention.adapt_sink_thr, attention.evict_idx = had
