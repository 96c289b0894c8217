"""The example of docs/adding-a-base-model.md: it is the page's code, it passes the suite, and it is small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vace_adapt.errors import CheckpointError
from vace_adapt_conformance import Outcome, Subject, all_checks
from vace_adapt_conformance.runner import run_check
from vace_adapt_selfforcing import plugin
from vace_adapt_selfforcing.settings import Settings

EXAMPLE = Path(__file__).parents[1]
PAGE = EXAMPLE.parents[1] / "docs" / "adding-a-base-model.md"
PENDING = {"sink", "prompt_switch", "reanchor", "reference_slots"}
"""What Self-Forcing does not do here yet."""

PACKAGE = EXAMPLE / "vace_adapt_selfforcing"


@pytest.fixture(scope="module")
def subject():
    return Subject("selfforcing", plugin, "the example", module="vace_adapt_selfforcing.plugin")


def written(code: str) -> list[str]:
    """Lines, blank ones aside."""
    return [line for line in code.splitlines() if line.strip()]


def test_the_pages_blocks_are_the_files():
    blocks: dict[str, str] = {}
    for title, code in re.findall(r"^```\w+ title=(\S+)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        blocks[title] = blocks.get(title, "") + code
    files = [EXAMPLE / "pyproject.toml", *PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.yaml")]
    expected = {str(file.relative_to(EXAMPLE)): written(file.read_text()) for file in files}
    assert {name: written(code) for name, code in blocks.items()} == expected


def test_it_is_small():
    lines = [line for file in PACKAGE.glob("*.py") for line in written(file.read_text())]
    assert len(lines) < 150
    assert f"in {len(lines)} lines of Python" in PAGE.read_text()


@pytest.mark.parametrize("check", list(all_checks()), ids=lambda check: check.name)
def test_conformance(check, subject):
    result = run_check(check, subject)
    assert not result.bad, result.reason
    if {"bank", "stream_batch"} & set(check.needs):
        assert result.outcome is Outcome.UNSUPPORTED
    else:
        assert (result.outcome is Outcome.NOT_IMPLEMENTED) == bool(PENDING & set(check.needs))


def test_official_numbers():
    """guandeh17/Self-Forcing configs/self_forcing_dmd.yaml."""
    settings = Settings(name="selfforcing")
    assert settings.denoising_steps == (1000, 750, 500, 250)
    assert (settings.timestep_shift, settings.chunk_latents, settings.window) == (5.0, 3, 21)


def test_files_that_are_not_given_are_named(subject):
    import torch

    from vace_adapt.contract import WeightsSettings

    where = (torch.device("cpu"), torch.float32, None, "native")
    with pytest.raises(CheckpointError, match="weights.vae is not given: pipeline 'selfforcing' needs base, vae and"):
        subject.hooks.load_pipeline(Settings(name="selfforcing"), WeightsSettings(base="x"), *where)
