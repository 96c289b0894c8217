"""README.md is run, not believed: its Python is a doctest (see pyproject.toml), its commands and tables are checked
here."""

from __future__ import annotations

import re
import shlex
import sys

import pytest
from support import ROOT
from tasks import write_files

from vace_adapt.cli.main import main

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.startswith("vace-adapt")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_accepted(command, tmp_path, monkeypatch, capsys):
    """Runs are composed and validated against stand-ins for the user's files; everything else is run as it stands."""
    monkeypatch.chdir(ROOT)
    _, *arguments = shlex.split(command)
    if arguments[0] in ("run", "explain") and "--cfg" not in arguments:
        monkeypatch.chdir(tmp_path)
        write_files(tmp_path)
    if arguments[0] == "run" and "--cfg" not in arguments:
        arguments.insert(1, "--cfg")
    assert main(arguments) == 0
    assert capsys.readouterr().out


def test_there_are_commands_of_every_kind():
    assert {command.split()[1] for command in COMMANDS} == {"list", "show", "annotators", "explain", "run", "parity"}


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)$", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_tables_are_generated_not_typed(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tables

    assert tables.filled(README) == README, "run python benchmarks/tables.py"
    assert "<!-- overhead:mid-cpu -->" in README
    del sys.modules["tables"]


def test_every_option_the_readme_names_exists():
    from vace_adapt.config.compose import compose_config

    composed = compose_config([])
    for section, key in re.findall(r"`(controls|pipeline|weights)\.(\w+)", README):
        assert key in composed[section], f"{section}.{key}"
