"""What is measured once, what a change makes to be measured again, and how scores become a table."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import questions
import report
import results
import score_tables
from arms import Arm
from cases import CASES
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
    plain = next(arm for arm in STREAMS if arm.name == "longlive").key
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
    assert set(counts) == set(range(max(case.clips for case in CASES.values())))
    for case in CASES.values():
        assert {job.clip for job in wanted if job.case == case.name} == set(range(case.clips))
    clips = [job.clip for job in wanted]
    assert clips == sorted(clips)
    assert len(dict.fromkeys(wanted)) < len(wanted), "tables share arms"


def test_questions_about_options_are_asked_on_the_first_clips_alone():
    for table in TABLES[1:]:
        asked = {case: {job.clip for job, _ in jobs((table,)) if job.case == case} for case in table.cases}
        assert asked == {case: set(range(min(8, CASES[case].clips))) for case in table.cases}


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


def test_streams_stand_beside_batch_vace():
    cells = {
        ("depth", "batch VACE"): Summary(0.8, 0.1),
        ("depth", "longlive"): Summary(0.68, 0.05),
        ("depth", "longlive, no hints"): Summary(0.2, 0.05),
        ("depth", "chance"): Summary(0.2, 0.0),
        ("inpaint, kept", "batch VACE"): Summary(25.0, 1.0),
        ("inpaint, kept", "longlive"): Summary(22.5, 1.0),
        ("inpaint, kept", "longlive, no hints"): Summary(12.0, 1.0),
        ("inpaint, kept", "chance"): Summary(11.0, 1.0),
    }
    table = score_tables.main_table(cells)
    assert "| 0.800 ± 0.100 |" in table
    assert "| 0.680 ± 0.050 (0.85) |" in table
    assert "| 22.5 ± 1.0 (-2.5) |" in table
    assert "| not measured |" in table
    bars = score_tables.bars(cells)
    assert "| longlive | depth | 0.85 | 0.80 | 0.00 | missed by 0.05 |" in bars
    assert "| longlive | inpaint, kept | -2.5 dB | | +1.0 dB | missed by 0.5 dB |" in bars
    assert "| memflow | depth |  | | | not measured |" in bars
    met = score_tables.bars({**cells, ("depth", "longlive"): Summary(0.76, 0.05)})
    assert "| longlive | depth | 0.95 | 0.93 | 0.00 | met |" in met
    chance = score_tables.bars({**cells, ("depth", "chance"): Summary(0.75, 0.0)})
    assert "none: batch VACE itself is not above chance" in chance


def test_the_readme_has_the_table_that_the_scores_make():
    assert "| a |" in report.filled("x\n<!-- fidelity -->\nold\n<!-- end -->\ny", "| a |\n")
    assert report.filled("nothing", "| a |\n") == "nothing"
    table = score_tables.main_table(report.found(MAIN))
    assert "| depth | IoU |" in table, "the scores are those of the weights that ship"
    assert score_tables.MISSING not in table
    assert report.filled(README, table) == README, "run python benchmarks/fidelity/report.py"
