"""The contract's docstrings are the specification, so they must be complete."""

from __future__ import annotations

import inspect

import pytest

from vace_adapt import hookspecs
from vace_adapt.hookspecs import ANNOTATOR_HOOKS, OPTIONAL_HOOKS, REQUIRED_HOOKS

ALL = {name: spec for name, spec in vars(hookspecs).items() if name.startswith("vace_") and callable(spec)}


def test_every_hook_is_listed_once():
    assert sorted(ALL) == sorted((*REQUIRED_HOOKS, *OPTIONAL_HOOKS, *ANNOTATOR_HOOKS))


@pytest.mark.parametrize("name", sorted(ALL))
def test_docstring_has_every_part(name):
    spec = ALL[name]
    text = inspect.getdoc(spec) or ""
    word = "Optional" if name in OPTIONAL_HOOKS else "Required"
    assert word in text, "says whether it is required"
    assert "Called" in text, "says when it is called"
    for argument in inspect.signature(spec).parameters:
        assert f":param {argument}:" in text, f"describes {argument}"
    if name != "vace_chunk_done":
        assert ":returns:" in text
        assert "First result" in text


def test_only_observers_get_every_implementation():
    firstresult = {name for name, spec in ALL.items() if spec.vace_adapt_spec["firstresult"]}
    assert set(ALL) - firstresult == {"vace_chunk_done"}
