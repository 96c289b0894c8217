"""A live `CausalWanModel` of the official repository as the loop's denoiser (layout ``official``).

The object is the user's, built with NVlabs/LongLive v1.0 (wan/modules/causal_model.py or causal_model_infinity.py). Its
blocks take ``(x, **kwargs)`` with ``e`` [B, F, 6, D] and ``context`` [B, T, D], and return ``(x, cache_update)`` when
they have a cache. Its own code rolls its own cache; here are only the buffers it expects and the call. Hints enter
through core's hooks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vace_adapt.cache.recent import RecentLatents
from vace_adapt.contract import (
    BlockInputs,
    BlockMap,
    BlockSite,
    CacheLayout,
    ChunkShapes,
    HintSource,
    PipelineParts,
    Stream,
)
from vace_adapt.models.schedule import FewStepSchedule

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


class Rows(NamedTuple):
    """What the model is called with for some batch rows: their prompt, and their memory as one dictionary a layer."""

    prompt: Tensor | None
    self_attention: list[dict[str, Any]]
    text: list[dict[str, Any]]


class OfficialCache:
    """`CacheOps` over the buffers the official model expects: one dictionary a layer."""

    def __init__(
        self,
        self_attention: list[dict[str, Tensor]],
        text: list[dict[str, Any]],
        recent: RecentLatents,
        layout: CacheLayout,
    ) -> None:
        self.self_attention = self_attention
        self.text = text
        self._text_buffers = [{name: layer[name] for name in ("k", "v")} for layer in text]
        self.recent = recent
        self.layout = layout
        self.sink_starts = [0] * recent.latents.shape[0]
        """Latent frame that the sink begins with, by batch row."""
        self.frame_tokens = self_attention[0]["k"].shape[1] // layout.slots

    @classmethod
    def open(cls, parts: PipelineParts, shapes: ChunkShapes, batch: int) -> OfficialCache:
        """Allocate the memory of one stream."""
        placement: Any = {"dtype": parts.dtype, "device": parts.device}
        backbone, slots = parts.backbone, parts.settings.slots
        heads = (batch, slots * shapes.frame_tokens, backbone.heads, backbone.head_dim)
        words = (batch, backbone.text_len, backbone.heads, backbone.head_dim)
        self_attention = [
            {
                "k": torch.zeros(heads, **placement),
                "v": torch.zeros(heads, **placement),
                "global_end_index": torch.zeros(1, dtype=torch.long, device=parts.device),
                "local_end_index": torch.zeros(1, dtype=torch.long, device=parts.device),
            }
            for _ in range(backbone.layers)
        ]
        text = [
            {"k": torch.zeros(words, **placement), "v": torch.zeros(words, **placement), "is_init": False}
            for _ in range(backbone.layers)
        ]
        recent = RecentLatents(slots, shapes.latent_shape(batch, 0), parts.dtype, parts.device)
        return cls(self_attention, text, recent, CacheLayout("foreign", slots, parts.settings.sink))

    def tensors(self) -> Mapping[str, Tensor]:
        return {
            **{f"{name}.{i}": layer[name] for i, layer in enumerate(self.self_attention) for name in layer},
            **{f"text.{name}.{i}": layer[name] for i, layer in enumerate(self.text) for name in ("k", "v")},
            "recent": self.recent.latents,
        }

    def positions(self, row: int = 0) -> Sequence[int]:
        """The official buffer keeps the sink and the newest frames in order of time."""
        end, sink = self.recent.end, self.layout.sink
        held = min(end, self.layout.slots)
        sink_frames = min(sink, held)
        first = self.sink_starts[row]
        frames = [*range(first, first + sink_frames), *range(end - held + sink_frames, end)]
        return tuple(frames + [-1] * (self.layout.slots - held))

    def snapshot(self) -> Any:
        tensors = {name: tensor.clone() for name, tensor in self.tensors().items()}
        return tensors, self.recent.end, list(self.sink_starts), self._initialised()

    def restore(self, snapshot: Any) -> None:
        tensors, self.recent.end, sink_starts, initialised = snapshot
        self.sink_starts = list(sink_starts)
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        for layer, state in zip(self.text, initialised, strict=True):
            layer["is_init"] = state

    def reset(self) -> None:
        for tensor in self.tensors().values():
            tensor.zero_()
        self.recent.end = 0
        self.sink_starts = [0] * len(self.sink_starts)
        self.forget_prompt()

    def rows(self, prompt: Tensor | None, which: slice) -> Rows:
        """Some batch rows of a prompt and of this memory: views. Text keys made anew for them are dropped."""
        assert prompt is not None, "a stream begins with its prompt"
        own = [
            [{**layer, "k": layer["k"][which], "v": layer["v"][which]} for layer in layers]
            for layers in (self.self_attention, self.text)
        ]
        return Rows(prompt[which], *own)

    def own_text(self) -> None:
        """Copy text keys and values that the model has made anew, as tensors of its own, into this stream's buffers."""
        for layer, buffers in zip(self.text, self._text_buffers, strict=True):
            for name, buffer in buffers.items():
                if layer[name] is not buffer:
                    buffer.copy_(layer[name])
                    layer[name] = buffer

    def forget_prompt(self) -> None:
        """The model computes its text keys anew at its next call."""
        for layer in self.text:
            layer["is_init"] = False

    def _initialised(self) -> list[bool]:
        return [layer["is_init"] for layer in self.text]


class OfficialDenoiser:
    """The live model with the memory of one stream."""

    def __init__(self, model: nn.Module, schedule: FewStepSchedule, stream: Stream) -> None:
        self.model = model
        self.schedule = schedule
        self.stream = stream
        self.cache: OfficialCache = stream.cache
        self._prompt: Tensor | None = None

    def set_prompt(self, prompt_embeds: Tensor) -> None:
        self._prompt = prompt_embeds
        self.cache.forget_prompt()

    def __call__(self, latents: Tensor, timestep: float, start: int, hints: HintSource | None) -> Tensor:
        return self._forward(latents, timestep, start, hints)

    def remember(self, latents: Tensor) -> None:
        self.cache.recent.push(latents)

    def recache(self, timestep: float, *, keep_sink: bool, hints: HintSource | None) -> None:
        start, latents = self.cache.recent.newest()
        if not keep_sink:
            for layer in self.cache.self_attention:
                layer["k"].zero_()
                layer["v"].zero_()
            self.cache.sink_starts = [start] * len(self.cache.sink_starts)
        self._forward(latents, timestep, start, hints, rewrite_sink=not keep_sink)
        self.cache.forget_prompt()

    def rebuild(self, row: int, latents: Tensor, timestep: float) -> None:
        start = self.cache.recent.replace(row, latents)
        own = self.cache.rows(self._prompt, slice(row, row + 1))
        for layer in own.self_attention:
            layer["k"].zero_()
            layer["v"].zero_()
        self.cache.sink_starts[row] = start
        self._call(own, latents, timestep, start, None, rewrite_sink=True)

    def _forward(
        self, latents: Tensor, timestep: float, start: int, hints: HintSource | None, *, rewrite_sink: bool = False
    ) -> Tensor:
        """A pass over all batch rows."""
        everything = Rows(self._prompt, self.cache.self_attention, self.cache.text)
        flow = self._call(everything, latents, timestep, start, hints, rewrite_sink=rewrite_sink)
        self.cache.own_text()
        return flow

    def _call(
        self, rows: Rows, latents: Tensor, timestep: float, start: int, hints: HintSource | None, *, rewrite_sink: bool
    ) -> Tensor:
        batch, _, frames, _, _ = latents.shape
        tokens = self.cache.frame_tokens
        size = self.cache.layout.slots * tokens
        with _one_call_at_a_time, self.stream.injecting(hints), _attention_size(self.model, size):
            return self.model(
                latents,
                t=self.schedule.tensor(timestep, batch)[:, None].expand(batch, frames),
                context=rows.prompt,
                seq_len=size,
                kv_cache=rows.self_attention,
                crossattn_cache=rows.text,
                current_start=start * tokens,
                cache_start=None,
                sink_recache_after_switch=rewrite_sink,
            )


@contextmanager
def _attention_size(model: nn.Module, tokens: int) -> Iterator[None]:
    """Let every self-attention see the whole cache, whatever the resolution: upstream fixes 1560 tokens a frame.

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
