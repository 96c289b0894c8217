"""A run's folder is its own, from before the first weight is read."""

from __future__ import annotations

import os

import pytest

from vace_adapt.errors import InputError
from vace_adapt.experiments.folder import claimed


def test_runs_of_one_second_get_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with claimed(None, "a") as first, claimed(None, "a") as second, claimed(None, "a") as third:
        assert len({first, second, third}) == 3
        (second / "output.mp4").write_text("x")
    assert [str(path) for path in tmp_path.rglob("*")] == [
        str(tmp_path / "outputs"), str(tmp_path / second), str(tmp_path / second / "output.mp4"),
    ]  # fmt: skip


def test_a_folder_that_was_there_stays(tmp_path):
    with claimed(tmp_path, "a") as folder:
        assert folder == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(tmp_path):
    with claimed(tmp_path / "x" / "run", "a") as folder, pytest.raises(InputError, match="run' is not empty: choose"):
        claimed(folder, "a").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_users_files_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(InputError, match="is not empty: choose another"):
        claimed(tmp_path, "a").__enter__()
    assert (tmp_path / "config.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("file", "a file is in the way"),
        ("file/run", "a file is in the way"),
        ("new/" + "x" * 300, "File name too long"),
        ("/proc/none/run", "No such file or directory"),
    ],
)
def test_a_folder_that_cannot_be_made(tmp_path, folder, why):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=f"output.folder '.*' cannot be written: {why}"):
        claimed(tmp_path / folder, "a").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match="cannot be written: Permission denied"):
        claimed(tmp_path / "run", "a").__enter__()


def test_a_failure_takes_the_new_folders_away(tmp_path):
    with pytest.raises(RuntimeError), claimed(tmp_path / "a" / "b", "a"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
