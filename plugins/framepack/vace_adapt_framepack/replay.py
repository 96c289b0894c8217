"""Which replay reads a golden file of this plugin."""

from __future__ import annotations

from pathlib import Path

from vace_adapt.contract import Comparison
from vace_adapt.parity.golden import read_golden
from vace_adapt_framepack.wan.replay import replay_helios


def replay(path: Path) -> Comparison:
    """See the hook `vace_replay`."""
    return replay_helios(read_golden(path))
