"""The conformance suite of vace-adapt: one table of what is right, missing and wrong with a pipeline plugin.

    vace-adapt check NAME
    python -m pytest --pyargs vace_adapt_conformance --pipeline NAME

In Python: ``run(open_subject("NAME"))``. Importing this package imports no torch.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "Check": "check",
    "Outcome": "check",
    "Result": "check",
    "Report": "report",
    "Subject": "subject",
    "all_checks": "runner",
    "open_subject": "subject",
    "run": "runner",
}

__all__ = ["Check", "Outcome", "Report", "Result", "Subject", "all_checks", "open_subject", "run"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
