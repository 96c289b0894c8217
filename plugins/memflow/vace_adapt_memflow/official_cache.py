"""The buffers the official MemFlow model expects: three dictionaries a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vace_adapt.cache.recent import RecentLatents
from vace_adapt.contract import CacheLayout, ChunkShapes, PipelineParts
from vace_adapt.errors import InputError

FRAME_TOKENS = 1560
"""Tokens of a latent frame that the official attention is written for: 480 x 832 pixels."""


class OfficialCache:
    """`CacheOps` over the buffers of a live `CausalWanModel`.

    Attributes:
        window, bank, text: what the model takes as ``kv_cache``, ``kv_bank`` and ``crossattn_cache``.
        recent: clean latents.
        waiting: whether the frame on offer was not taken in yet.
        frame_tokens: tokens of a latent frame.
    """

    def __init__(
        self,
        window: list[dict[str, Tensor]],
        bank: list[dict[str, Tensor]],
        text: list[dict[str, Any]],
        recent: RecentLatents,
        layout: CacheLayout,
        frame_tokens: int,
    ) -> None:
        self.window = window
        self.bank = bank
        self.text = text
        self._text_buffers = [{name: layer[name] for name in ("k", "v")} for layer in text]
        self.recent = recent
        self.layout = layout
        self.frame_tokens = frame_tokens
        self.waiting = False
        self.sink_start = 0
        """Latent frame that the sink begins with."""
        batch, device = bank[0]["k"].shape[0], bank[0]["k"].device
        self._banked = torch.full((batch, layout.bank), -1, dtype=torch.int64, device=device)
        self._offered = -1

    @classmethod
    def open(cls, parts: PipelineParts, shapes: ChunkShapes, batch: int) -> OfficialCache:
        """Allocate the memory of one stream.

        Raises:
            InputError: a size that the official attention is not written for.
        """
        tokens = shapes.frame_tokens
        if tokens != FRAME_TOKENS:
            raise InputError(
                f"a stream of {shapes.pixel_height} x {shapes.pixel_width} pixels has {tokens} tokens a latent frame, "
                f"layout 'official' takes {FRAME_TOKENS} (480 x 832): the official attention is written for that number"
            )
        settings, backbone = parts.settings, parts.backbone

        def buffers(rows: int, *names: str) -> dict[str, Tensor]:
            shape = (batch, rows, backbone.heads, backbone.head_dim)
            return {name: torch.zeros(shape, dtype=parts.dtype, device=parts.device) for name in names}

        def indices() -> dict[str, Tensor]:
            names = ("global_end_index", "local_end_index")
            return {name: torch.zeros(1, dtype=torch.long, device=parts.device) for name in names}

        layers = range(backbone.layers)
        window = [{**buffers(settings.slots * tokens, "k", "v"), **indices()} for _ in layers]
        size = settings.bank * tokens
        bank = [{**buffers(size, "k", "v"), **buffers(tokens, "k_new", "v_new"), **indices()} for _ in layers]
        text = [{**buffers(backbone.text_len, "k", "v"), "is_init": False} for _ in layers]
        recent = RecentLatents(settings.slots, shapes.latent_shape(batch, 0), parts.dtype, parts.device)
        layout = CacheLayout("foreign", settings.slots + settings.bank, settings.sink, bank=settings.bank)
        return cls(window, bank, text, recent, layout, tokens)

    @property
    def slots(self) -> int:
        """Latent frames of sink and window."""
        return self.layout.slots - self.layout.bank

    def committed(self, latents: Tensor, start: int, *, offered: bool) -> None:
        """A chunk's clean pass is done; its first frame was offered to the bank, or not."""
        self.recent.push(latents)
        if offered:
            self.waiting, self._offered = True, start

    def keys_before(self) -> Tensor:
        """The first layer's banked frames and the one on offer, for `taken`: [B, slots + 1, ...]."""
        layer = self.bank[0]
        return torch.cat([layer["k"], layer["k_new"]], dim=1).unflatten(1, (-1, self.frame_tokens))

    def taken(self, before: Tensor) -> None:
        """The model has taken in the frame on offer: see which frames its first layer has kept."""
        self.waiting = False
        if self._offered < 0:
            return
        after = self.bank[0]["k"].unflatten(1, (-1, self.frame_tokens))
        same = (after[:, :, None] == before[:, None]).flatten(3).all(dim=3)
        offered = torch.full_like(self._banked[:, :1], self._offered)
        known = torch.cat([self._banked, offered], dim=1)
        self._banked.copy_(known.gather(1, same.int().argmax(dim=2)))

    def restart(self, start: int) -> None:
        """The model's next pass begins an empty window at latent frame `start`; its sink comes first."""
        for layer in self.window:
            layer["global_end_index"].fill_(start * self.frame_tokens)
            layer["local_end_index"].zero_()
        self.sink_start = start

    def own_text(self) -> None:
        """Copy text keys and values that the model has made anew, as tensors of its own, into this stream's buffers."""
        for layer, buffers in zip(self.text, self._text_buffers, strict=True):
            for name, buffer in buffers.items():
                if layer[name] is not buffer:
                    buffer.copy_(layer[name])
                    layer[name] = buffer

    def forget_prompt(self) -> None:
        """Zeros for the prompt's keys and values, until the model computes them anew at its next call."""
        for layer in self.text:
            layer["k"].zero_()
            layer["v"].zero_()
            layer["is_init"] = False

    # --- CacheOps -----------------------------------------------------------------------------------------------------

    def tensors(self) -> Mapping[str, Tensor]:
        parts = {"window": self.window, "bank": self.bank, "text": self._text_buffers}
        named = {
            f"{part}.{name}.{i}": layer[name] for part, layers in parts.items() for i, layer in enumerate(layers)
            for name in layer
        }  # fmt: skip
        return {**named, "recent": self.recent.latents, "bank.frames": self._banked}

    def positions(self, row: int = 0) -> Sequence[int]:
        """The official window keeps the sink and the newest frames in order of time; then the first layer's bank."""
        end, sink = self.recent.end, self.layout.sink
        held = min(end, self.slots)
        sink_frames = min(sink, held)
        frames = [*range(self.sink_start, self.sink_start + sink_frames), *range(end - held + sink_frames, end)]
        return (*frames, *[-1] * (self.slots - held), *self._banked[row].tolist())

    def snapshot(self) -> Any:
        tensors = {name: tensor.clone() for name, tensor in self.tensors().items()}
        numbers = self.recent.end, self.sink_start, self.waiting, self._offered
        return tensors, numbers, [layer["is_init"] for layer in self.text]

    def restore(self, snapshot: Any) -> None:
        tensors, (self.recent.end, self.sink_start, self.waiting, self._offered), initialised = snapshot
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        for layer, state in zip(self.text, initialised, strict=True):
            layer["is_init"] = state

    def reset(self) -> None:
        for tensor in self.tensors().values():
            tensor.zero_()
        self._banked.fill_(-1)
        self.recent.end = self.sink_start = 0
        self.waiting, self._offered = False, -1
        self.forget_prompt()
