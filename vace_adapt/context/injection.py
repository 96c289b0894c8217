"""Hints into a foreign base model: plain `nn.Module` hooks that come off again. The only file that touches such a
model.

A pre-hook on the first block reads what the context path needs and computes all hints; a forward hook on each context
layer adds one. No module is wrapped, no class is changed, no forward loop is re-implemented; keys, parameters and
pickling of the model stay as they are. Which stream is running is known per thread, so streams in several threads never
meet.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from vace_adapt.contract import BlockMap, BlockSite, ComputesHints, Hints
from vace_adapt.errors import AttachError

_attached: weakref.WeakKeyDictionary[nn.Module, Attachment] = weakref.WeakKeyDictionary()


class Attachment:
    """Hooks on one model.

    Args:
        model: the base transformer.
        block_map: where its blocks are.
        layers: blocks that receive hints.

    Raises:
        AttachError: the model is attached already, or a path leads nowhere. Nothing was changed.
    """

    def __init__(self, model: nn.Module, block_map: BlockMap, layers: Sequence[int]) -> None:
        if model in _attached:
            raise AttachError("this model is attached already: detach it first")
        blocks = [_resolve(model, site) for site in block_map.sites]
        if max(layers) >= len(blocks):
            raise AttachError(
                f"context layer {max(layers)} needs {max(layers) + 1} blocks, the model has {len(blocks)}"
            )
        self._model = weakref.ref(model)
        self._local = threading.local()
        first = block_map.sites[0]
        self._handles = [
            blocks[0].register_forward_pre_hook(
                lambda _, args, kwargs: self._read(first, args, kwargs), with_kwargs=True
            )
        ]
        for layer in layers:
            self._handles.append(blocks[layer].register_forward_hook(self._adder(layer, block_map.sites[layer])))
        _attached[model] = self

    @contextmanager
    def running(self, source: ComputesHints | None) -> Iterator[None]:
        """Within it, this thread's call of the model runs with the hints of `source`; with None, bare.

        Raises:
            AttachError: the model ran without its first block's hook, so the hints were not used.
        """
        self._local.source = source
        self._local.hints = None
        try:
            yield
            if source is not None and self._local.hints is None:
                raise AttachError(
                    "the model ran without the hooks on its blocks: was it compiled as a whole before it was attached? "
                    "Compile its blocks instead"
                )
        finally:
            self._local.source = self._local.hints = None

    def detach(self) -> None:
        """Take every hook off; the model is what it was, bit for bit. Doing it twice does no harm."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        model = self._model()
        if model is not None and _attached.get(model) is self:
            del _attached[model]

    def _read(self, site: BlockSite, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        source: ComputesHints | None = getattr(self._local, "source", None)
        if source is not None:
            self._local.hints = source(site.read(args, kwargs))

    def _adder(self, layer: int, site: BlockSite) -> Any:
        def add(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            hints: Hints = getattr(self._local, "hints", None) or {}
            if layer not in hints:
                return None
            hidden, hint = site.hidden(output), hints[layer]
            rows = hint.shape[1]
            if hidden.shape[1] < rows or (hidden.shape[0], hidden.shape[2]) != (hint.shape[0], hint.shape[2]):
                raise AttachError(f"hint {tuple(hint.shape)} does not fit block {layer}'s output {tuple(hidden.shape)}")
            if hidden.shape[1] == rows:
                return site.write(output, hidden + hint)
            added = hidden.clone()
            added[:, -rows:] += hint
            return site.write(output, added)

        return add


def _resolve(model: nn.Module, site: BlockSite) -> nn.Module:
    try:
        return model.get_submodule(site.path)
    except AttributeError as error:
        raise AttachError(f"{type(model).__name__} has no block at {site.path!r}") from error
