"""Every number of LongLive's official configuration (NVlabs/LongLive v1.0 configs/longlive_inference.yaml)."""

from __future__ import annotations

from typing import Literal

from vace_adapt.contract import CausalSettings


class LongLiveSettings(CausalSettings):
    """The ``pipeline:`` section: `CausalSettings`, whose defaults are LongLive's, and one number of its own.

    Attributes:
        rope: ``absolute`` positions, or ``relative`` to the window (``use_infinite_attention``).
    """

    rope: Literal["absolute", "relative"] = "absolute"
