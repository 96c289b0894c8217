"""What a run depended on: files told from others, the hash of a configuration, the state of a checkout."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from vace_adapt.config.read import settings_from
from vace_adapt.errors import InputError
from vace_adapt.experiments.files import FileMark, files_named
from vace_adapt.experiments.record import config_hash, git_state, input_marks, read_record


def text(*overrides: str):
    return settings_from(["task=text", "frames=9", *overrides])


def test_the_hash_is_of_what_is_made_and_not_of_where():
    assert config_hash(text("output.folder=a")) == config_hash(text("output.folder=b")) == config_hash(text())
    others = {config_hash(text(change)) for change in ("seed=1", "prompt=x", "pipeline.sink=2", "output.quality=20")}
    assert len(others | {config_hash(text())}) == 5


def test_a_file_is_known_by_its_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    mark = FileMark.of(path)
    assert (mark.path, mark.bytes) == (path, 3)
    assert mark.unchanged()
    os.utime(path, ns=(1, 1))
    assert mark.unchanged(), "another time, the same content"
    path.write_bytes(b"two")
    assert not mark.unchanged(), "the same size, another content"
    path.unlink()
    assert not mark.unchanged()


def test_every_file_of_a_configuration_is_marked_and_no_prompt(tmp_path):
    for name in ("v.mp4", "a.png", "b.png", "prompt"):
        (tmp_path / name).write_text(name)
    references = f"references=[{tmp_path}/a.png,{{image: {tmp_path}/b.png, mask: {tmp_path}/a.png}}]"
    settings = text(f"input={tmp_path}/v.mp4", references, f"prompt={tmp_path}/prompt")
    assert [mark.path.name for mark in input_marks(settings)] == ["a.png", "b.png", "v.mp4"]


def test_what_is_no_file_is_no_file(tmp_path):
    assert files_named({"a": "x" * 5000, "b": [None, 3, "", str(tmp_path)]}) == []


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_state_of_a_checkout(tmp_path):
    assert git_state(tmp_path) is None
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("one\n")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "a")
    clean = git_state(tmp_path)
    assert (len(clean.commit), clean.changes, clean.untracked) == (40, "", ())
    (tmp_path / "a").write_text("two\n")
    (tmp_path / "b").write_text("")
    changed = git_state(tmp_path)
    assert (changed.commit, changed.untracked) == (clean.commit, ("b",))
    assert "-one\n+two\n" in changed.changes


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "is not the folder of a finished run: run.json: No such file or directory"),
        ("{", "is not a record of a run: no JSON"),
        (json.dumps({"format": 1}), "is not a record of a run: config_hash"),
    ],
)
def test_a_folder_without_a_record_is_refused(tmp_path, content, why):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=why):
        read_record(tmp_path)
