"""What a live model must be, to be used in place of files: checked before anything is built around it."""

from __future__ import annotations

from torch import nn

from vace_adapt.weights.causal import check_live_model, expected_sizes, native_sizes
from vace_adapt_memflow.settings import MemFlowSettings


def check_model(model: nn.Module, layout: str, settings: MemFlowSettings) -> None:
    """Refuse a live model that does not have the layout, or is not what the settings say.

    Raises:
        CheckpointError: naming what differs, with both numbers.
    """
    check_live_model(model, layout, native_sizes, expected_sizes(settings))
