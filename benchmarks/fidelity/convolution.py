"""Convolutions of small videos on a CPU through oneDNN, where torch takes its several times slower own loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class OneDnn(TorchFunctionMode):
    """Within it, `torch.conv3d` is oneDNN's: the same sums in another order."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call what torch was asked for, or oneDNN's convolution."""
        if func is torch.conv3d:
            return _conv3d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _conv3d(
    video: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> torch.Tensor:
    """[B, C, T, H, W] and [O, C, t, h, w] to [B, O, T', H', W']."""
    return torch.mkldnn_convolution(video, weight, bias, padding, stride, dilation, groups)  # type: ignore[attr-defined]
