"""Imports go one way: a folder or file may import what stands above it in the list, never what stands below."""

from __future__ import annotations

import ast

import pytest
from support import ROOT

ORDER = [
    "quiet", "errors", "time_map", "boxes", "compiling", "images", "video",
    "contract", "scale", "composing", "controls", "validation", "hookspecs", "facade", "loading",
    "attention", "cache", "models", "conditioning", "context",
    "weights", "annotators", "metrics", "composition", "embedded", "parity",
    "streaming", "batch",
    "config", "experiments", "comparison",
    "cli", "__main__",
]  # fmt: skip
PACKAGE = ROOT / "vace_adapt"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [node.module] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            if module and module.startswith("vace_adapt."):
                assert ORDER.index(part(module)) <= ORDER.index(own), f"{own} must not import {module}"


def test_the_list_is_complete():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert sorted(parts) == sorted(ORDER)
