"""``vace-adapt list`` and ``show`` beside plugins that are broken."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from vace_adapt.cli.main import main
from vace_adapt.hookspecs import REQUIRED_HOOKS


@pytest.mark.parametrize(
    ("name", "decorators", "answer", "text"),
    [
        ("shaky", "@hookimpl", "1 / 0", "vace_describe raised ZeroDivisionError: division by zero"),
        ("stiff", "@hookimpl\n@functools.cache", "None", "vace_describe must be a function or a method, not"),
    ],
)
def test_list_and_show_beside_a_plugin_that_cannot_describe_itself(install, capsys, name, decorators, answer, text):
    hooks = "".join(f"{hook} = longlive.{hook}\n" for hook in REQUIRED_HOOKS)
    imports = (
        "import functools\nimport vace_adapt_longlive.plugin as longlive\nfrom vace_adapt.hookspecs import hookimpl\n"
    )
    install(name, f"{imports}{hooks}{decorators}\ndef vace_describe():\n    return {answer}\n")
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"longlive +LongLive 1.0", listed)
    assert re.search(rf"{name} +broken: pipeline '{name}': {re.escape(text)}", listed)
    assert main(["show", "longlive"]) == 0
    assert main(["show", name]) == 2
    assert f"error: pipeline '{name}': {text}" in capsys.readouterr().err


def run_cli(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    code = f"""
import sys
sys.path.insert(0, {path!r})
from vace_adapt.cli.main import main
status = main({list(arguments)!r})
print("torch" in sys.modules)
sys.exit(status)
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_list_and_show_work_beside_a_broken_plugin_and_without_torch(install, tmp_path):
    install("shaky", "raise ImportError('upstream is gone')")
    folder = str(tmp_path / "vace-adapt-shaky")
    listed = run_cli("list", path=folder)
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"longlive +LongLive 1.0", listed.stdout)
    assert re.search(r"shaky +broken: pipeline 'shaky' \(vace-adapt-shaky 1\.2", listed.stdout)
    shown = run_cli("show", "longlive", path=folder)
    assert shown.returncode == 0
    assert "width 1536, 30 blocks, 12 heads" in shown.stdout
    assert "layout official: unsupported: the official attention reads its own cache" in shown.stdout
    assert listed.stdout.endswith("False\n")
    assert shown.stdout.endswith("False\n")
    broken = run_cli("show", "shaky", path=folder)
    assert broken.returncode == 2
    assert broken.stderr.startswith("error: pipeline 'shaky'")
