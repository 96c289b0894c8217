"""A folder that a killed run left behind is told from one that a running one holds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vace_adapt.errors import InputError
from vace_adapt.experiments.folder import CLAIM, Taken, claimed
from vace_adapt.experiments.output import clear

HOLD = """
import sys, time
from pathlib import Path
from vace_adapt.experiments.folder import claimed
with claimed(Path(sys.argv[1]), "a") as folder:
    (folder / "output.mp4.partial").write_text("half")
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def held(tmp_path):
    """A folder that another process holds, and that process."""
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield folder, process
        finally:
            process.kill()


def test_what_a_running_run_holds_is_left_alone(held):
    folder, _ = held
    with pytest.raises(Taken, match="is taken by another run"), claimed(folder, "a", clear):
        pass
    assert {path.name for path in folder.iterdir()} == {CLAIM, "output.mp4.partial"}


def test_what_a_killed_run_left_is_cleared(held):
    folder, process = held
    process.kill()
    process.wait()
    assert (folder / CLAIM).exists()
    with pytest.raises(InputError, match="is not empty"), claimed(folder, "a"):
        pass
    with claimed(folder, "a", clear):
        assert [path.name for path in folder.iterdir()] == [CLAIM]


def test_files_that_are_no_runs_stay(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="is not empty"), claimed(tmp_path, "a", clear):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_who_clears_may_refuse(tmp_path):
    def refuse(folder):
        raise KeyError

    (tmp_path / "output.mp4").write_text("finished")
    with pytest.raises(KeyError), claimed(tmp_path, "a", refuse):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["output.mp4"]
