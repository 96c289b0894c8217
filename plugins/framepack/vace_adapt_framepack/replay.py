"""Which replay reads a golden file of this plugin."""

from __future__ import annotations

from pathlib import Path

from vace_adapt.contract import Comparison
from vace_adapt.parity.golden import read_golden
from vace_adapt_framepack.hunyuan.replay import replay_hunyuan
from vace_adapt_framepack.wan.replay import replay_helios


def replay(path: Path) -> Comparison:
    """See the hook `vace_replay`."""
    golden = read_golden(path)
    return replay_helios(golden) if golden.pipeline == "helios_wan" else replay_hunyuan(golden)
