"""Where the time of a chunk goes.

A chunk's time is cut at every change of the part that runs, so that the parts are disjoint and add up to the whole: the
base's time does not contain the context path that runs inside its pass. On a GPU a cut is an event in the device's own
queue, read when the chunk is done; nothing waits for the device while a chunk is made. The product knows nothing of
this: the base model gets `nn.Module` hooks, what a chunk asks of core is wrapped, and both are taken away again.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.vae import DecoderStream, EncoderStream
from vace_adapt.contract import HintSource
from vace_adapt.streaming.chunk import SessionChunk

PARTS = ("encode", "context", "base", "clean", "decode", "rest")
"""Encoding of control, source and references; context path; the base's denoise steps; its clean passes, recaches and
rebuildings; decoding; everything else.
"""


class PartClock:
    """Seconds of one chunk by part.

    Args:
        device: whose time is taken.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._inside = ["rest"]
        self._cuts: list[tuple[str, Any]] = []
        self._pass = "base"

    def start(self) -> None:
        """Begin a chunk."""
        self._inside = ["rest"]
        self._cuts = [("rest", self._now())]

    def stop(self) -> dict[str, float]:
        """End it: seconds of every part."""
        self._cut("end")
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        seconds = dict.fromkeys(PARTS, 0.0)
        for (part, begin), (_, end) in zip(self._cuts, self._cuts[1:], strict=False):
            seconds[part] += self._between(begin, end)
        return seconds

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[PartClock]:
        """Listen to a base model and to the chunks of all streams, within it."""
        wrapped = [
            (ControlEncoder, "control", self._timed("encode")),
            (ControlEncoder, "references", self._timed("encode")),
            (ControlEncoder, "nothing", self._timed("encode")),
            (EncoderStream, "encode", self._timed("encode")),
            (DecoderStream, "decode", self._timed("decode")),
            (SessionChunk, "denoising", self._asked("base")),
            (SessionChunk, "unconditional", self._asked("base")),
            (SessionChunk, "clean_pass", self._asked("clean")),
        ]
        hooks = [
            model.register_forward_pre_hook(lambda *_: self._enter(self._pass)),
            model.register_forward_hook(lambda *_: self._leave()),
        ]
        try:
            with ExitStack() as stack:
                for owner, name, around in wrapped:
                    stack.enter_context(patch.object(owner, name, around(getattr(owner, name))))
                yield self
        finally:
            for hook in hooks:
                hook.remove()

    def _timed(self, part: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Wraps a function, whose time is that part's."""

        def around(function: Callable[..., Any]) -> Callable[..., Any]:
            def timed(*args: Any, **kwargs: Any) -> Any:
                self._enter(part)
                try:
                    return function(*args, **kwargs)
                finally:
                    self._leave()

            return timed

        return around

    def _asked(self, of_pass: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Wraps what a loop asks before a pass: the hints it gets are timed, and the pass is of that kind."""
        timed = self._timed("context")

        def around(function: Callable[..., Any]) -> Callable[..., Any]:
            def asked(*args: Any, **kwargs: Any) -> HintSource | None:
                self._pass = of_pass
                source: HintSource | None = function(*args, **kwargs)
                if source is None:
                    return None
                slots = source.references
                slots = None if slots is None else dataclasses.replace(slots, hints=timed(slots.hints))
                return dataclasses.replace(source, hints=timed(source.hints), references=slots)

            return asked

        return around

    def _enter(self, part: str) -> None:
        self._inside.append(part)
        self._cut(part)

    def _leave(self) -> None:
        self._inside.pop()
        self._cut(self._inside[-1])

    def _cut(self, part: str) -> None:
        self._cuts.append((part, self._now()))

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, begin: Any, end: Any) -> float:
        return begin.elapsed_time(end) / 1000 if self._device.type == "cuda" else end - begin
