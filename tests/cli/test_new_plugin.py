"""``vace-adapt new-plugin``: an installable skeleton, whose check names the hooks that are missing."""

from __future__ import annotations

import ast
import importlib

import pytest
from installing import installed

from vace_adapt.cli.main import main
from vace_adapt.cli.new_plugin import WRITTEN
from vace_adapt.contract import CAPABILITIES
from vace_adapt.hookspecs import HOOK_API, REQUIRED_HOOKS


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A skeleton, as pip would have installed it."""
    assert main(["new-plugin", "mine", "--folder", str(tmp_path)]) == 0
    folder = tmp_path / "vace-adapt-mine"
    installed(folder, monkeypatch)
    return folder


def test_files(written, capsys):
    files = sorted(str(path.relative_to(written)) for path in written.rglob("*") if path.is_file())
    assert [file for file in files if "dist-info" not in file] == [
        "README.md",
        "pyproject.toml",
        "tests/test_mine.py",
        "vace_adapt_mine/__init__.py",
        "vace_adapt_mine/conf/pipeline/mine.yaml",
        "vace_adapt_mine/plugin.py",
        "vace_adapt_mine/settings.py",
    ]
    assert "@" not in (written / "pyproject.toml").read_text()
    for file in written.rglob("*.py"):
        ast.parse(file.read_text())
        assert "@NAME@" not in file.read_text()


def test_it_says_what_it_was_written_against(written):
    info = importlib.import_module("vace_adapt_mine.plugin").INFO
    assert info.hook_api == HOOK_API
    assert list(info.capabilities) == list(CAPABILITIES)


def test_its_check_names_the_missing_hooks_one_line_each(written, capsys):
    pytest.importorskip("vace_adapt_conformance")
    assert main(["check", "mine"]) == 1
    table, _, missing = capsys.readouterr().out.partition("hooks still to write\n")
    lines = [line.strip() for line in missing.splitlines() if line.startswith("  ")]
    expected = [hook for hook in REQUIRED_HOOKS if hook not in WRITTEN]
    assert [line.split()[0] for line in lines] == expected
    assert lines[-1] == "vace_stream has no @hookimpl yet: Run the base model's own loop."
    assert "FAILED" not in table
    assert "ok       settings_are_the_yaml" in table
    assert "missing  tiny_depends_on_its_seed" in table


@pytest.mark.parametrize("name", ["My", "a-b", "1st", "", "a b"])
def test_names_that_no_package_can_have_are_refused(name, tmp_path, capsys):
    assert main(["new-plugin", name, "--folder", str(tmp_path)]) == 2
    assert f"begins with a letter, not {name!r}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(written, tmp_path, capsys):
    assert main(["new-plugin", "mine", "--folder", str(tmp_path)]) == 2
    assert "vace-adapt-mine is there already" in capsys.readouterr().err
