"""The command line: a run of each backend ends in a playable video, and parity reads both kinds of files."""

from __future__ import annotations

import json

import pytest
from support import golden

from vace_adapt.cli.main import main
from vace_adapt.config.compose import bundled
from vace_adapt.video.read import probe, read_frames

TINY = [f"input={bundled('video.mp4')}", "height=32", "width=48", "device=cpu"]
INVERTED = ["pipeline.backend=hunyuan", "pipeline.sampling=inverted"]


@pytest.mark.parametrize(
    ("words", "count", "chunks"),
    [
        ([], 40, [33, 7]),
        (["pipeline.backend=hunyuan"], 40, [37, 3]),
        ([*INVERTED, "pipeline.sections=2", "pipeline.chunk_latents=5"], 41, [21, 20]),
    ],
)
def test_a_run_ends_in_a_playable_video(tmp_path, words, count, chunks):
    folder = tmp_path / "run"
    assert main(["run", "pipeline=framepack", *words, *TINY, f"frames={count}", f"output.folder={folder}"]) == 0
    video = probe(folder / "output.mp4")
    assert (video.frames, video.height, video.width) == (count, 32, 48)
    assert len(list(read_frames(video, 32, 48))) == count
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [chunk["pixels"] for chunk in metrics["chunks"]] == chunks


def test_parity_reads_both_formats(capsys):
    names = ("helios_wan/sections", "framepack_hunyuan/sections_inverted")
    files = [str(golden(name)) for name in names]
    assert main(["parity", *files]) == 0
    assert "2 of 2 files within 0.0001" in capsys.readouterr().out
    assert main(["parity", "--tolerance", "0", *files]) == 1
