"""README.md is run, not believed: its Python is a doctest (see pyproject.toml), its commands and tables are checked
here."""

from __future__ import annotations

import re
import shlex
import sys
from typing import Literal, get_args, get_origin

import pytest
from installing import installed
from support import ROOT
from tasks import write_files

from vace_adapt.cli.main import main

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.startswith("vace-adapt")
]
SEQUENCE = [command for block in BLOCKS if "vace-adapt rerun" in block for command in block.splitlines()]
"""Experiments: each command needs what those before it have made."""

NEW = [command.split()[2] for command in COMMANDS if command.startswith("vace-adapt new-plugin")]
"""Plugins that a reader has made."""


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in SEQUENCE])
def test_commands_are_accepted(command, tmp_path, monkeypatch, capsys):
    """Runs are composed and validated against stand-ins for the user's files; everything else is run as it stands."""
    monkeypatch.chdir(ROOT)
    _, *arguments = shlex.split(command, comments=True)
    if arguments[0] in ("run", "explain", "new-plugin", "check") and "--cfg" not in arguments:
        monkeypatch.chdir(tmp_path)
        write_files(tmp_path)
    if arguments[0] == "run" and "--cfg" not in arguments:
        arguments.insert(1, "--cfg")
    if unwritten := arguments[0] == "check" and arguments[1] in NEW:
        assert main(["new-plugin", arguments[1]]) == 0
        installed(tmp_path / f"vace-adapt-{arguments[1]}", monkeypatch)
    assert main(arguments) == (1 if unwritten else 0)
    out = capsys.readouterr().out
    assert "hooks still to write" in out if unwritten else out


def test_the_experiments_run_one_after_another(tmp_path, monkeypatch, capsys):
    """Really, but with few frames, and one value of everything that is swept over seeds and scales."""
    monkeypatch.chdir(tmp_path)
    for command in SEQUENCE:
        _, *arguments = shlex.split(command, comments=True)
        if arguments[0] == "run":
            arguments = [re.sub(r"^(seed|controls\.scale\.control)=.*", r"\1=1", each) for each in arguments]
            arguments += ["frames=9", "device=cpu"]
        assert main(arguments) == 0, command
    out = capsys.readouterr().out
    assert "9 runs: 9 made" in out
    assert "the same bits" in out
    assert (tmp_path / "controls.html").stat().st_size > 2**16


def test_there_are_commands_of_every_kind():
    kinds = {"list", "show", "annotators", "explain", "run", "parity", "check", "new-plugin", "rerun", "compare"}
    assert {command.split()[1] for command in COMMANDS} == kinds


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)$", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_tables_are_generated_not_typed(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tables

    assert tables.filled(README) == README, "run python benchmarks/tables.py"
    assert "<!-- speed:mid-cpu:cost -->" in README
    del sys.modules["tables"]


def test_the_conformance_table_is_that_of_the_suite():
    """Made by ``python -m vace_adapt_conformance.table NAME... --write README.md``; what each check finds is tested
    where the pipelines are.
    """
    conformance = pytest.importorskip("vace_adapt_conformance")
    table = README.partition("<!-- conformance -->\n")[2].partition("<!-- end -->")[0]
    rows = [row for row in table.splitlines() if row.startswith("|")]
    statements = [check.statement.replace("|", "\\|") for check in conformance.all_checks()]
    assert [row.split(" | ")[1] for row in rows[2:-1]] == statements
    assert "**" not in table


def test_every_option_the_readme_names_exists():
    from vace_adapt.config.compose import compose_config

    composed = compose_config([])
    for section, key in re.findall(r"`(controls|weights)\.(\w+)", README):
        assert key in composed[section], f"{section}.{key}"


OPTIONS = re.findall(r"^\| `pipeline\.(\w+)` \| (.*?) \| (\w+): ", README, flags=re.MULTILINE)
"""Key, values, pipeline."""


def test_options_of_pipelines_are_told():
    assert {pipeline for _, _, pipeline in OPTIONS} == {"longlive", "memflow", "streamdiffusion", "framepack"}
    assert len(OPTIONS) == len(re.findall(r"^\| `pipeline\.", README, flags=re.MULTILINE))


@pytest.mark.parametrize(("key", "values", "pipeline"), OPTIONS)
def test_options_of_pipelines_are_those_of_their_settings(key, values, pipeline):
    """The first value is the default; where there are few, all are named."""
    from vace_adapt.loading import load_plugin

    settings = load_plugin(pipeline).settings_type()
    named = [value.strip().strip("`") for value in values.split(",")]
    default = getattr(settings(name=pipeline), key)
    kind = settings.model_fields[key].annotation
    choices = [str(choice).lower() for choice in get_args(kind)] if get_origin(kind) is Literal else None
    choices = ["true", "false"] if kind is bool else choices
    assert named[0] == str(default).lower()
    assert choices is None or sorted(named) == sorted(choices)
