"""One typed method for each hook, so that no other code calls pluggy.

Every return value is checked; a wrong one names the plugin and the hook.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from vace_adapt.contract import (
    Attend,
    BlockMap,
    CacheOps,
    ChunkReport,
    ChunkShapes,
    Comparison,
    EmbeddedBase,
    PipelineInfo,
    PipelineParts,
    PipelineSettings,
    ReferenceRoom,
    Stream,
    Support,
    WeightsSettings,
)
from vace_adapt.errors import HookReturnType, PluginError, Unsupported

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

T = TypeVar("T")


class PipelineHooks:
    """The loaded plugin of one pipeline.

    Attributes:
        name: entry-point name.
        distribution: name and version of the distribution it came from.
        info: what the plugin says of itself.
    """

    def __init__(self, name: str, distribution: str, manager: pluggy.PluginManager) -> None:
        self.name = name
        self.distribution = distribution
        self._hook = manager.hook
        self.info: PipelineInfo = self._expect("vace_describe", PipelineInfo, self._ask(self._hook.vace_describe))

    def require(self, capability: str, layout: str) -> None:
        """Refuse what the plugin does not declare as full for a model of this layout.

        Raises:
            Unsupported: with the declared reason.
        """
        special = self.info.exceptions.get(layout, {}).get(capability)
        declared = special or self.info.capabilities[capability]
        if declared.support is not Support.FULL:
            name = f"{self.name!r}" if special is None else f"{self.name!r}, layout {layout!r}"
            raise Unsupported(f"pipeline {name}: {capability} is {declared.support.value}: {declared.reason}")

    def settings_type(self) -> type[PipelineSettings]:
        came = self._ask(self._hook.vace_settings)
        if not (isinstance(came, type) and issubclass(came, PipelineSettings)):
            raise HookReturnType(self.name, "vace_settings", came, "a subclass of PipelineSettings")
        return came

    def load_pipeline(
        self,
        settings: PipelineSettings,
        weights: WeightsSettings,
        device: torch.device,
        dtype: torch.dtype,
        model: nn.Module | None,
        layout: str,
    ) -> PipelineParts:
        came = self._hook.vace_load_pipeline(
            settings=settings, weights=weights, device=device, dtype=dtype, model=model, layout=layout
        )
        return self._expect("vace_load_pipeline", PipelineParts, came)

    def tiny_pipeline(self, settings: PipelineSettings, seed: int) -> PipelineParts:
        return self._expect(
            "vace_tiny_pipeline", PipelineParts, self._hook.vace_tiny_pipeline(settings=settings, seed=seed)
        )

    def embedded_base(self, settings: PipelineSettings) -> EmbeddedBase | None:
        came = self._hook.vace_embedded_base(settings=settings)
        return None if came is None else self._expect("vace_embedded_base", EmbeddedBase, came)

    def locate_blocks(self, model: nn.Module, layout: str) -> BlockMap:
        return self._expect("vace_locate_blocks", BlockMap, self._hook.vace_locate_blocks(model=model, layout=layout))

    def wrap_attention(self, attend: Attend, layer: int, model: nn.Module) -> Attend:
        came = self._hook.vace_wrap_attention(attend=attend, layer=layer, model=model)
        if not callable(came):
            raise HookReturnType(self.name, "vace_wrap_attention", came, "a callable (query, key, value) -> Tensor")
        return came

    def chunk_shapes(self, parts: PipelineParts, height: int, width: int) -> ChunkShapes:
        came = self._hook.vace_chunk_shapes(parts=parts, height=height, width=width)
        return self._expect("vace_chunk_shapes", ChunkShapes, came)

    def cache_ops(
        self, parts: PipelineParts, shapes: ChunkShapes, batch: int, references: ReferenceRoom | None = None
    ) -> CacheOps:
        came = self._hook.vace_cache_ops(parts=parts, shapes=shapes, batch=batch, references=references)
        if not isinstance(came, CacheOps):
            raise HookReturnType(self.name, "vace_cache_ops", came, "an object with the methods of CacheOps")
        return came

    def stream(self, parts: PipelineParts, stream: Stream) -> Generator[Tensor]:
        came = self._hook.vace_stream(parts=parts, stream=stream)
        if not isinstance(came, Generator):
            raise HookReturnType(self.name, "vace_stream", came, "a generator of latents")
        return came

    def decode(self, parts: PipelineParts, latents: Tensor, first: bool, state: list[object]) -> Tensor | None:
        from torch import Tensor

        came = self._hook.vace_decode(parts=parts, latents=latents, first=first, state=state)
        if came is not None and not (isinstance(came, Tensor) and came.ndim == 5):
            raise HookReturnType(self.name, "vace_decode", came, "float [B, 3, T, H, W] or None")
        return came

    def replay(self, path: Path) -> Comparison | None:
        came = self._hook.vace_replay(path=path)
        return None if came is None else self._expect("vace_replay", Comparison, came)

    def chunk_done(self, report: ChunkReport) -> None:
        self._hook.vace_chunk_done(report=report)

    def _ask(self, hook: Any) -> Any:
        """What a hook without arguments answers; whatever it raises is an error of the plugin."""
        try:
            return hook()
        except Exception as cause:  # a plugin may fail in any way; the cause is chained and shown
            text = " ".join(f"{type(cause).__name__}: {cause}".split())
            raise PluginError(f"pipeline {self.name!r}: {hook.name} raised {text}") from cause

    def _expect(self, hook: str, kind: type[T], came: Any) -> T:
        if not isinstance(came, kind):
            raise HookReturnType(self.name, hook, came, kind.__name__)
        return came
