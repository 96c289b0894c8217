"""``--pipeline`` for pytest, which loads this module wherever the suite is installed: it imports no torch."""

from __future__ import annotations

from typing import Any

import pytest

REFERENCES = {
    "reference": "vace_adapt_conformance.reference.plugin",
    "batched": "vace_adapt_conformance.batched.plugin",
}
"""The suite's own pipelines, which no distribution has to offer: plugin modules by name."""

CHECKED = "vace_adapt_conformance.test_conformance"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--pipeline 'NAME [key=value ...]'``, once for each pipeline to check."""
    parser.getgroup("vace-adapt").addoption(
        "--pipeline",
        action="append",
        default=[],
        metavar="NAME",
        help="pipeline whose plugin is checked, with settings behind it if wanted: 'NAME key=value' (repeatable)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a pipeline that is not there, before anything is collected."""
    asked = config.getoption("--pipeline")
    if not asked:
        return
    from vace_adapt.loading import discover

    known = sorted(discover())
    for name in (words.split()[0] if words.split() else "" for words in asked):
        if name not in (*known, *REFERENCES):
            raise pytest.UsageError(f"--pipeline {name}: not installed (installed: {', '.join(known) or 'none'})")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each pipeline and check; without ``--pipeline``, for every installed pipeline."""
    if metafunc.module.__name__ != CHECKED:
        return
    from vace_adapt.loading import discover
    from vace_adapt_conformance.runner import all_checks

    names = metafunc.config.getoption("--pipeline") or sorted(discover())
    if "check" in metafunc.fixturenames:
        cases = [(name, check) for name in names for check in all_checks()]
        ids = [f"{name}-{check.group}-{check.name}" for name, check in cases]
        metafunc.parametrize(("pipeline", "check"), cases, ids=ids, scope="session")
    else:
        metafunc.parametrize("pipeline", names, scope="session")


@pytest.fixture(scope="session")
def conformance_subjects() -> dict[str, Any]:
    """Subjects opened so far, by name."""
    import torch

    torch.set_num_threads(1)  # in models this small, threads only wait for each other
    return {}
