"""What is on the page: names, differences, marks, plots; nothing of a run can break out of its place."""

from __future__ import annotations

import json
import math

import pytest
from comparison.pages import example_page, example_runs, run_folder

from vace_adapt.cli.main import main
from vace_adapt.comparison.differences import ABSENT, differences, names
from vace_adapt.comparison.plots import plot, short
from vace_adapt.comparison.tables import _mark
from vace_adapt.errors import InputError
from vace_adapt.experiments.finished import run_folders
from vace_adapt.experiments.measure import measure
from vace_adapt.metrics.named import METRICS


def config(**changed):
    return {
        "pipeline": {"name": "longlive"},
        "task": {"name": "depth"},
        "seed": 0,
        "controls": {"scale": 1.0},
        **changed,
    }


def test_differences_and_what_most_do_not_have():
    found = differences([config(), config(seed=1), config(extra=[1, 2])])
    assert [(one.key, one.values, one.odd) for one in found] == [
        ("seed", ("0", "1", "0"), {1}),
        ("extra", (ABSENT, ABSENT, "[1, 2]"), {2}),
    ]
    assert differences([config(), config(seed=1)])[0].odd == frozenset(), "of two values none is odd"
    assert differences([config(), config()]) == []


def test_a_run_is_named_after_what_it_has_alone():
    runs = [config(controls={"scale": scale}) for scale in (0.5, 1.0)]
    assert names(runs, ["a", "b"]) == ["longlive · scale 0.5", "longlive · scale 1"]
    assert names([config(), config()], ["a", "b"]) == ["a", "b"]
    other = config(pipeline={"name": "memflow"})
    assert names([config(), other], ["a", "b"]) == ["longlive", "memflow"]


def test_best_and_worst_are_marked():
    higher, lower, neither = METRICS["fps"], METRICS["warp_error"], METRICS["sharpness"]
    values = [1.0, 2.0, 3.0]
    assert [_mark(value, values, higher) for value in values] == [' class="worst"', "", ' class="best"']
    assert [_mark(value, values, lower) for value in values] == [' class="best"', "", ' class="worst"']
    assert [_mark(value, values, neither) for value in values] == ["", "", ""]
    assert [_mark(value, [1, 1.0001], higher) for value in (1, 1.0001)] == ["", ""], "they look the same"
    assert _mark(1, [1, 1, 1, 2], higher) == "", "most have it"


def test_numbers_are_short():
    assert [short(value) for value in (0, 0.01234, 0.5, 12.34, 123.4, 12345)] == [
        "0",
        "0.012",
        "0.50",
        "12.3",
        "123",
        "12\u202f345",
    ]
    assert short(math.nan) == "–"


def test_a_plot_has_a_line_for_each_run_and_gaps_where_nothing_is():
    drawn = plot("drift", "ΔE", [("a<b", [1, 2, math.nan, 3, 4]), ("c", [0, 1, 2, 3, 4])])
    assert drawn.count("<polyline") == 3
    assert drawn.count("<circle") == 9
    assert "a&lt;b, chunk 1: 2.00 ΔE" in drawn
    assert "a<b" not in drawn


def test_the_page_tells_what_the_runs_are(tmp_path):
    text = example_page(tmp_path)
    assert "a &lt;red&gt; ball" in text
    assert "unsupported: &lt;none&gt;" in text
    assert "a <red>" not in text
    assert text.count("data:video/mp4;base64,") == 4, "control and mask once, and two runs"
    assert "longlive · seed 0" in text
    facts = json.loads(text.partition('id="facts">')[2].partition("</script>")[0])
    assert facts == {"rate": 10.0, "frames": 21, "chunks": [9, 12]}


def test_measures_of_a_folder(tmp_path):
    run = example_runs(tmp_path)[1]
    made = measure(run)
    assert made.values["first_frame_latency"] == 2
    assert made.values["fps"] == pytest.approx(21 / 6)
    assert made.chunks["chunk_latency"] == [2, 4]
    assert len(made.chunks["boundary_jump"]) == 2
    assert "psnr" not in made.values, "nothing is kept"
    assert len(made.notes) == 1
    assert "its inputs cannot be read any more" in made.notes[0]


def test_folders_of_runs_and_sweeps(tmp_path):
    one, two = run_folder(tmp_path / "s" / "b"), run_folder(tmp_path / "s" / "a")
    assert run_folders([tmp_path / "s"]) == [two, one]
    assert run_folders([one, tmp_path / "s"]) == [one, two]
    with pytest.raises(InputError, match="is neither the folder of a finished run nor of a sweep"):
        run_folders([tmp_path])


def test_the_command(tmp_path, capsys):
    run_folder(tmp_path / "s" / "a")
    report = tmp_path / "check.json"
    report.write_text(json.dumps({"pipeline": "longlive", "passed": True, "checks": [{"outcome": "passed"}] * 3}))
    out = tmp_path / "page.html"
    given = [str(tmp_path / "s"), "--title", "Mine <3", "--out", str(out), "--conformance", str(report)]
    assert main(["compare", *given]) == 0
    text = out.read_text()
    assert "<h1>Mine &lt;3</h1>" in text
    assert "conformance passed: 3 passed" in text
    assert main(["compare", str(tmp_path / "s"), "--out", str(tmp_path / "none" / "page.html")]) == 2
    assert main(["compare", str(tmp_path / "s"), "--conformance", str(out), "--out", str(out)]) == 2
    assert "is not what vace-adapt check --json writes" in capsys.readouterr().err
