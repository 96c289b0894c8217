"""``vace-adapt run`` that fails or is interrupted: nothing is lost, nothing is half-written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import av
import pytest
from cli.runs import SMALL, files

from vace_adapt.cli.main import main
from vace_adapt.experiments import output
from vace_adapt.video.read import probe
from vace_adapt.video.sheet import ContactSheet
from vace_adapt.video.write import VideoWriter


def test_a_run_folder_is_never_overwritten(tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["run", "task=text", "frames=9", *SMALL, f"output.folder={folder}"]
    assert main(arguments) == 0
    before = (folder / "output.mp4").stat().st_mtime_ns
    assert main(arguments) == 2
    assert f"output.folder '{folder}' is not empty: choose another" in capsys.readouterr().err
    assert (folder / "output.mp4").stat().st_mtime_ns == before


def test_a_failure_inside_a_run_leaves_nothing(tmp_path, monkeypatch):
    from vace_adapt.streaming.session import Session

    real = Session.__next__

    def fails(self):
        if self._index == 1:
            raise RuntimeError("out of memory")
        return real(self)

    monkeypatch.setattr(Session, "__next__", fails)
    with pytest.raises(RuntimeError):
        main(["run", "task=text", "frames=33", *SMALL, f"output.folder={tmp_path / 'a' / 'b'}"])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def interruptible():
    """SIGINT as a terminal delivers it: a shell starts background jobs with it ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_the_chunks_made_so_far(tmp_path):
    folder = tmp_path / "run"
    arguments = ["task=text", "frames=100000", *SMALL, f"output.folder={folder}"]
    command = [sys.executable, "-m", "vace_adapt", "run", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            deadline = time.time() + 90
            while not (folder / "output.mp4.partial").exists() and time.time() < deadline:
                time.sleep(0.05)
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            printed, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert files(folder) == ["config.yaml", "metrics.json", "output.mp4", "run.json", "sheet.png"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["interrupted"] is True
    with av.open(str(folder / "output.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == metrics["frames"] > 0
    assert f"interrupted; the {metrics['frames']} frames made so far are kept" in printed


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_the_first_chunk_is_written(tmp_path, monkeypatch):
    """The chunk is in the video and in the metrics, or in neither."""
    real = VideoWriter.write

    def pressed(self, frames):
        real(self, frames[:3])
        signal.raise_signal(signal.SIGINT)
        real(self, frames[3:])

    monkeypatch.setattr(VideoWriter, "write", pressed)
    folder = tmp_path / "run"
    assert main(["run", "task=text", "frames=33", *SMALL, f"output.folder={folder}"]) == 130
    assert files(folder) == ["config.yaml", "metrics.json", "output.mp4", "run.json", "sheet.png"]
    assert probe(folder / "output.mp4").frames == 9
    assert json.loads((folder / "metrics.json").read_text())["frames"] == 9


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_the_files_get_their_names(tmp_path, monkeypatch):
    real = ContactSheet.save

    def pressed(self, path):
        signal.raise_signal(signal.SIGINT)
        real(self, path)

    monkeypatch.setattr(ContactSheet, "save", pressed)
    folder = tmp_path / "run"
    assert main(["run", "task=text", "frames=9", *SMALL, f"output.folder={folder}"]) == 0
    assert files(folder) == ["config.yaml", "metrics.json", "output.mp4", "run.json", "sheet.png"]


def test_a_full_disk_at_the_end_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "save_text", full)
    assert main(["run", "task=text", "frames=9", *SMALL, f"output.folder={tmp_path / 'a' / 'run'}"]) == 2
    assert capsys.readouterr().err.endswith("run cannot be written: No space left on device\n")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_in_the_middle_leaves_nothing(tmp_path):
    code = (
        "import resource, sys; from vace_adapt.cli.main import main; import vace_adapt.experiments.run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"sys.exit(main(['run', 'task=text', 'frames=57', 'output.quality=0', 'output.folder=a/run', *{SMALL}]))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.splitlines()[-1]) == (2, "error: a/run cannot be written: File too large")
    assert list(tmp_path.iterdir()) == []
