"""What is measured once, what a change makes to be measured again, and how scores become a table."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import questions
import report
import results
from arms import Arm
from questions import MAIN, STREAMS, TABLES, longlive
from results import Job
from run import jobs
from scipy.stats import t
from summary import STUDENT_T, Summary, ratio, summary

README = (Path(__file__).parents[3] / "README.md").read_text()


@pytest.fixture
def scores(tmp_path, monkeypatch):
    """An empty file of scores."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "SCORES", tmp_path / "fidelity.jsonl")
    return tmp_path / "fidelity.jsonl"


def test_options_at_their_defaults_are_the_default_arm():
    plain = STREAMS[0].key
    assert longlive("one", hint_reuse=1).key == plain
    assert longlive("cached", reference_form="cached", reference_slots=0).key == plain
    changed = [
        longlive("", hint_reuse=2),
        longlive("", settings=questions.SHORT),
        Arm("", hints=False, pipeline="longlive"),
    ]
    assert len({plain, *(arm.key for arm in changed)}) == 4


def test_every_job_is_asked_for_once_and_clips_come_one_after_another():
    wanted = [job for job, _ in jobs(TABLES)]
    counts = Counter(job.clip for job in dict.fromkeys(wanted))
    assert set(counts) == set(range(max(table.clips for table in TABLES)))
    clips = [job.clip for job in wanted]
    assert clips == sorted(clips)
    assert len(dict.fromkeys(wanted)) < len(wanted), "tables share arms"


def test_scores_of_other_weights_are_dropped(scores):
    ours, theirs = Job("depth", "batch", "a", 0, 0, 81), Job("depth", "batch", "b", 0, 0, 81)
    results.keep(ours, 0.123456, 1.0)
    results.keep(theirs, 0.5, 1.0)
    assert results.measured() == {ours: 0.12346, theirs: 0.5}
    results.drop_all_but({"a"})
    assert results.measured() == {ours: 0.12346}
    assert json.loads(scores.read_text())["seconds"] == 1.0


def test_a_cell_needs_every_clip_and_seed(scores):
    wanted = [job for job, _ in jobs((MAIN,)) if job.case == "depth" and job.arm == "batch"]
    for job in wanted[:-1]:
        results.keep(job, 0.5, 1.0)
    assert report.found(MAIN) == {}
    results.keep(wanted[-1], 0.5, 1.0)
    assert report.found(MAIN) == {("depth", "batch VACE"): Summary(0.5, 0.0)}


def test_long_streams_of_other_weights_are_not_shown(tmp_path, monkeypatch):
    assert report.long_streams() is not None
    record = json.loads(report.DRIFT.read_text())
    other = tmp_path / "drift.json"
    other.write_text(json.dumps({**record, "weights": "other"}))
    monkeypatch.setattr(report, "DRIFT", other)
    assert report.long_streams() is None


def test_mean_and_interval():
    mean, half = summary([[0.0, 1.0], [1.0, 1.0], [0.5, 1.0]])
    assert mean == 0.75
    assert half == pytest.approx(4.303 * 0.25 / 3**0.5)
    for count, value in STUDENT_T.items():
        assert value == pytest.approx(t.ppf(0.975, count - 1), abs=1e-3)


def test_ratio_above_the_floor():
    assert ratio(Summary(0.4, 0), Summary(0.6, 0), Summary(0.2, 0)) == pytest.approx(0.5)


def test_the_readme_has_the_table_that_the_scores_make():
    assert "| a |" in report.filled("x\n<!-- fidelity -->\nold\n<!-- end -->\ny", "| a |\n")
    assert report.filled("nothing", "| a |\n") == "nothing"
    table = report._main(report.found(MAIN))
    assert "| depth | IoU |" in table, "the scores are those of the weights that ship"
    assert report.filled(README, table) == README, "run python benchmarks/fidelity/report.py"
