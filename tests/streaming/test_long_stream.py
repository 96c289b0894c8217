"""Nothing grows with the length of a stream."""

from __future__ import annotations

import oracles


def test_memory_and_cache_are_constant_over_500_chunks(pipe):
    """Well past the 1024 latent frames of upstream's position tables."""
    oracles.nothing_grows(pipe, chunks=500, settled=60)
