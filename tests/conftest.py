"""What tests of several packages look at."""

from __future__ import annotations

import pytest

from vace_adapt.context.blocks import ContextBlock


@pytest.fixture
def runs(monkeypatch):
    """How often a context block has run."""
    seen = []
    real = ContextBlock.forward
    monkeypatch.setattr(ContextBlock, "forward", lambda self, *args: seen.append(1) or real(self, *args))
    return seen
