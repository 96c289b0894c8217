"""The buffers that the official StreamDiffusionV2 model expects: two dictionaries and a list a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vace_adapt.contract import CacheLayout, ChunkShapes, PipelineParts
from vace_adapt.errors import InputError
from vace_adapt_streamdiffusion.live import check_settings
from vace_adapt_streamdiffusion.settings import ring_ends


class Rows(NamedTuple):
    """What the model is called with for some batch rows, layer by layer: views of the memory.

    Attributes:
        prompt: [R, T, text_dim].
        window, text: ``kv_cache`` and ``crossattn_cache``.
        evict: ``self_attn.evict_idx``: tokens behind the slots to give up next, by row. The model changes the lists.
    """

    prompt: Tensor
    window: list[dict[str, Any]]
    text: list[dict[str, Any]]
    evict: list[list[list[int]]]


class OfficialCache:
    """`CacheOps` over the buffers of a live `CausalWanModel`. In a stream batch there is a block of B rows for every
    denoise step.

    Attributes:
        batch: rows of the stream, B.
        frame_tokens: tokens of a latent frame.
        prompts: number of the prompt that each block of rows holds.
    """

    def __init__(self, parts: PipelineParts, shapes: ChunkShapes, batch: int) -> None:
        settings, backbone, blocks = parts.settings, parts.backbone, parts.chunks_at_once
        self.batch = batch
        self.frame_tokens = shapes.frame_tokens
        self.layout = CacheLayout("foreign", settings.slots, settings.sink, refreshed=settings.sink_threshold > -1)
        self.prompts: list[int | None] = [None] * blocks
        self._ends = [end * shapes.frame_tokens for end in ring_ends(settings)]
        self._steps = 1 if settings.stream_batch else parts.draws
        self._current = self._steps
        self._read = [False] * blocks
        rows = blocks * batch
        placement: Any = {"dtype": parts.dtype, "device": parts.device}

        def buffers(tokens: int) -> dict[str, Tensor]:
            shape = (rows, tokens, backbone.heads, backbone.head_dim)
            return {name: torch.zeros(shape, **placement) for name in ("k", "v")}

        def indices() -> dict[str, Tensor]:
            names = ("global_end_index", "local_end_index")
            return {name: torch.zeros(rows, dtype=torch.long, device=parts.device) for name in names}

        layers = range(backbone.layers)
        self._window = [{**buffers(settings.slots * shapes.frame_tokens), **indices()} for _ in layers]
        self._text = [buffers(backbone.text_len) for _ in layers]
        self._prompt = torch.zeros((rows, backbone.text_len, backbone.text_dim), **placement)
        self._held = torch.full((rows, settings.slots), -1, dtype=torch.int64, device=parts.device)
        self._evict: list[list[list[int]]] = [[[] for _ in range(rows)] for _ in layers]

    @classmethod
    def open(cls, parts: PipelineParts, shapes: ChunkShapes, batch: int) -> OfficialCache:
        """Allocate the memory of one stream.

        Raises:
            SettingsError, InputError: what the official attention does not do.
        """
        check_settings(parts.settings)
        if batch > 1 and parts.chunks_at_once == 1 and parts.draws > 1:
            raise InputError(
                f"a stream of {batch} rows in layout 'official' needs pipeline.stream_batch=true: without it the "
                "official memory takes 1 row"
            )
        return cls(parts, shapes, batch)

    def rows(self, block: int, count: int = 1) -> slice:
        """The batch rows of some blocks."""
        return slice(block * self.batch, (block + count) * self.batch)

    # --- prompts ------------------------------------------------------------------------------------------------------

    def set_prompt(self, block: int, number: int, prompt_embeds: Tensor) -> None:
        """Let a block of rows have these embeddings, of prompt `number`; the model computes keys and values of them."""
        if self.prompts[block] != number:
            self._prompt[self.rows(block)] = prompt_embeds
            self.prompts[block] = number
            self._read[block] = False

    def read_prompts(self, own: Rows, rows: slice) -> None:
        """Copy keys and values of prompts that the model has computed into this stream's buffers."""
        blocks = range(rows.start // self.batch, rows.stop // self.batch)
        if all(self._read[block] for block in blocks):
            return
        for buffers, layer in zip(self._text, own.text, strict=True):
            for name, buffer in buffers.items():
                buffer[rows] = layer[name]
        for block in blocks:
            self._read[block] = True

    # --- passes -------------------------------------------------------------------------------------------------------

    def own(self, rows: slice) -> Rows:
        """Some rows, as the model takes them."""
        steps = {"total_steps": self._steps, "current_step": self._current}
        read = all(self._read[row // self.batch] for row in range(rows.start, rows.stop))
        return Rows(
            self._prompt[rows],
            [{**{name: tensor[rows] for name, tensor in layer.items()}, **steps} for layer in self._window],
            [{**{name: tensor[rows] for name, tensor in layer.items()}, "is_init": read} for layer in self._text],
            [layer[rows] for layer in self._evict],
        )

    def before(self, rows: slice) -> Tensor:
        """The first layer's keys, for `written`."""
        return self._window[0]["k"][rows].clone()

    def written(self, rows: slice, own: Rows, before: Tensor, frames: Tensor) -> None:
        """The model has run: see in which slots of the first layer it has put latent frames, int64 [R, F]."""
        self._current = own.window[0]["current_step"]
        after = self._window[0]["k"][rows]
        changed = (after != before).flatten(2).any(dim=2).unflatten(1, (-1, self.frame_tokens)).any(dim=2)
        at = (changed.cumsum(dim=1) - 1).clamp(0, frames.shape[1] - 1)
        self._held[rows] = torch.where(changed, frames.gather(1, at), self._held[rows])

    def empty(self, row: int, begin: int, frames: int) -> None:
        """Let the model's next pass, over so many frames from token `begin` on, fill a row of the first block anew."""
        for layer in self._window:
            layer["global_end_index"][row] = begin
            layer["local_end_index"][row] = 0
        for lists in self._evict:
            lists[row][:] = self._kept(lists[row], frames)

    def rebuilt(self, row: int, start: int, frames: int) -> None:
        """It has: the row holds the latent frames from `start` on, in every block of rows."""
        self._held[row] = -1
        self._held[row, :frames] = torch.arange(start, start + frames, device=self._held.device)
        if frames == self.layout.slots:
            for lists in self._evict:
                lists[row][:] = self._ends
        self._copy(slice(row, row + 1))

    def spread(self) -> None:
        """Copy the first block of rows into all others."""
        self._copy(slice(self.batch))

    def _kept(self, ends: list[int], frames: int) -> list[int]:
        """The slots to give up next, without replacements of the sink; a full memory is filled to its last slot."""
        if frames == self.layout.slots:
            return [frames * self.frame_tokens]
        return [end for end in ends if end > self.layout.sink * self.frame_tokens]

    def _copy(self, own: slice) -> None:
        tensors = [self._held, *(tensor for layer in self._window for tensor in layer.values())]
        for tensor in tensors:
            blocks = tensor.unflatten(0, (-1, self.batch))
            blocks[1:, own] = tensor[None, own]
        for lists in self._evict:
            for row in range(self.batch, len(lists)):
                if own.start is None or own.start <= row % self.batch < own.stop:
                    lists[row][:] = lists[row % self.batch]

    # --- CacheOps -----------------------------------------------------------------------------------------------------

    def tensors(self) -> Mapping[str, Tensor]:
        parts = {"window": self._window, "text": self._text}
        named = {
            f"{part}.{name}.{i}": layer[name] for part, layers in parts.items() for i, layer in enumerate(layers)
            for name in layer
        }  # fmt: skip
        return {**named, "prompt": self._prompt, "held": self._held}

    def positions(self, row: int = 0) -> Sequence[int]:
        """Of the first layer, in the block of the last step."""
        return tuple(self._held[self.rows(len(self.prompts) - 1)][row].tolist())

    def snapshot(self) -> Any:
        tensors = {name: tensor.clone() for name, tensor in self.tensors().items()}
        evict = [[list(row) for row in lists] for lists in self._evict]
        return tensors, evict, self._current, list(self.prompts), list(self._read)

    def restore(self, snapshot: Any) -> None:
        tensors, evict, self._current, prompts, read = snapshot
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self._evict = [[list(row) for row in lists] for lists in evict]
        self.prompts, self._read = list(prompts), list(read)

    def reset(self) -> None:
        for tensor in self.tensors().values():
            tensor.zero_()
        self._held.fill_(-1)
        self._evict = [[[] for _ in lists] for lists in self._evict]
        self._current = self._steps
        self.prompts, self._read = [None] * len(self.prompts), [False] * len(self._read)
