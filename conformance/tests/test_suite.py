"""What becomes of a check, and how it is told: outcomes, report, table, command line, pytest."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import types

import mutants
import pytest

from vace_adapt.cli.main import main
from vace_adapt.contract import Capability, Injection, Support
from vace_adapt.errors import InputError, PipelineNotFound
from vace_adapt.hookspecs import REQUIRED_HOOKS, hookimpl
from vace_adapt_conformance import Outcome, all_checks, open_subject, run, runner, table
from vace_adapt_conformance.reference import plugin as reference
from vace_adapt_conformance.runner import run_check
from vace_adapt_conformance.subject import Subject

CHECKS = {check.name: check for check in all_checks()}


@pytest.fixture(scope="module")
def subject():
    return open_subject("reference")


@pytest.fixture
def few(monkeypatch):
    """A suite of three checks."""
    names = ("info_is_plain", "the_sink_stays", "every_draw_is_used")
    monkeypatch.setattr(runner, "all_checks", lambda: (CHECKS[name] for name in names))


def declaring(capability: str, support: Support, **hooks) -> Subject:
    """The reference pipeline with another declaration of one capability, and other hooks."""
    declared = {**reference.INFO.capabilities, capability: Capability(support=support, reason="because")}

    @hookimpl
    def vace_describe():
        return reference.INFO.model_copy(update={"capabilities": declared})

    own = {hook: getattr(reference, hook) for hook in REQUIRED_HOOKS}
    return Subject("reference", types.SimpleNamespace(**{**own, "vace_describe": vace_describe, **hooks}), "x 1.0")


# --- checks ------------------------------------------------------------------------------------------------------------


def test_the_reference_pipelines_pass_everything(subject):
    """The batched one has what the other does not: together they run every check."""
    passed = set()
    for each in (subject, open_subject("batched")):
        results = [run_check(check, each) for check in CHECKS.values()]
        assert {one.check.name: one.reason for one in results if one.bad} == {}
        passed |= {one.check.name for one in results if one.outcome is Outcome.PASSED}
    assert passed == set(CHECKS)


def test_a_sink_that_is_refreshed_is_only_refreshed(monkeypatch, tmp_path):
    """The same memory passes as one that is refreshed; one that moves its sink does not."""

    def subject(sinks):
        bench = mutants.Bench(monkeypatch, tmp_path)

        @bench.hook
        def vace_cache_ops(parts, shapes, batch, references):
            memory = reference.vace_cache_ops(parts, shapes, batch, references)
            memory.layout = dataclasses.replace(memory.layout, refreshed=True)
            real = memory.positions
            memory.positions = lambda row=0: (*sinks(real(row)[:2]), *real(row)[2:])
            return memory

        return bench.subject()

    assert run_check(CHECKS["the_sink_stays"], subject(lambda held: held)).outcome is Outcome.PASSED
    moved = iter([(-1, -1), (0, 1), (0, 1), (1, 0), *[(0, 1)] * 20])
    result = run_check(CHECKS["the_sink_stays"], subject(lambda held: next(moved)))
    assert result.outcome is Outcome.FAILED
    assert result.reason == (
        "after chunk 2 slot 0 of the sink holds frame 1, held 0: expected that, or one of the newest [4, 5]"
    )


def test_every_statement_is_one_sentence():
    for check in CHECKS.values():
        assert check.statement.endswith("."), check.name
        assert len(check.statement) < 140, check.name


def test_importing_the_suite_imports_no_torch():
    code = "import sys, vace_adapt_conformance, vace_adapt_conformance.pytest_plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- outcomes ----------------------------------------------------------------------------------------------------------


def test_what_the_model_cannot_do_is_not_checked():
    result = run_check(CHECKS["the_sink_stays"], declaring("sink", Support.UNSUPPORTED))
    assert (result.outcome, result.reason) == (Outcome.UNSUPPORTED, "sink: because")


def test_what_is_declared_not_implemented_and_passes_is_to_be_declared():
    result = run_check(CHECKS["the_sink_stays"], declaring("sink", Support.NOT_IMPLEMENTED))
    assert result.outcome is Outcome.FAILED
    assert result.reason == "passes, but sink is declared not implemented: declare it full"


def test_what_is_declared_not_implemented_and_fails_is_expected(monkeypatch, tmp_path):
    mutants.the_sink_stays(mutants.Bench(monkeypatch, tmp_path))
    result = run_check(CHECKS["the_sink_stays"], declaring("sink", Support.NOT_IMPLEMENTED))
    assert (result.outcome, result.reason) == (Outcome.NOT_IMPLEMENTED, "sink: because")
    assert not result.bad


def test_a_check_that_holds_trivially_is_not_asked():
    result = run_check(CHECKS["empty_slots_are_not_seen"], declaring("reference_slots", Support.NOT_IMPLEMENTED))
    assert result.outcome is Outcome.NOT_IMPLEMENTED


def test_a_layout_may_declare_otherwise():
    no = Capability(support=Support.UNSUPPORTED, reason="its cache is its own")
    info = reference.INFO.model_copy(
        update={"layouts": {"native": Injection.ARGUMENTS}, "exceptions": {"native": {"sink": no}}}
    )
    own = {hook: getattr(reference, hook) for hook in REQUIRED_HOOKS}
    subject = Subject("reference", types.SimpleNamespace(**{**own, "vace_describe": hookimpl(lambda: info)}))
    assert run_check(CHECKS["the_sink_stays"], subject).reason == "sink: its cache is its own"


def test_missing_hooks_are_named_and_what_needs_them_is_missing(few):
    def vace_stream(parts, stream):
        """Without @hookimpl."""

    own = {hook: getattr(reference, hook) for hook in REQUIRED_HOOKS if hook != "vace_cache_ops"}
    report = run(Subject("reference", types.SimpleNamespace(**{**own, "vace_stream": vace_stream}), "x 1.0"))
    assert report.missing == (
        "vace_cache_ops is not written yet: Allocate the memory of one stream.",
        "vace_stream has no @hookimpl yet: Run the base model's own loop.",
    )
    outcomes = [(one.check.name, one.outcome, one.reason) for one in report.results]
    assert outcomes == [
        ("info_is_plain", Outcome.PASSED, ""),
        ("the_sink_stays", Outcome.MISSING, "needs vace_cache_ops"),
        ("every_draw_is_used", Outcome.MISSING, "needs vace_cache_ops"),
    ]
    assert not report.passed
    assert "hooks still to write\n  vace_cache_ops is not written yet: Allocate" in report.text()


def test_a_plugin_that_does_not_load_says_why(monkeypatch, tmp_path):
    bench = mutants.Bench(monkeypatch, tmp_path)
    mutants.plugin_loads(bench)
    broken = bench.subject()
    assert run_check(CHECKS["plugin_loads"], broken).reason == (
        "pipeline 'reference': vace_wrap_attention: attend must not have a default value"
    )
    result = run_check(CHECKS["the_sink_stays"], broken)
    assert result.outcome is Outcome.MISSING
    assert result.reason.startswith("the plugin does not load: pipeline 'reference': vace_wrap_attention")


def test_an_error_of_the_plugin_is_a_failure_with_its_place():
    @hookimpl
    def vace_chunk_shapes(parts, height, width):
        raise ValueError("no idea")

    subject = declaring("lora", Support.UNSUPPORTED, vace_chunk_shapes=vace_chunk_shapes)
    result = run_check(CHECKS["every_draw_is_used"], subject)
    assert result.outcome is Outcome.FAILED
    assert result.reason.startswith("raised ValueError: no idea (test_suite.py:")


def test_unknown_pipelines_are_refused():
    with pytest.raises(PipelineNotFound, match="no pipeline 'refrence' .*did you mean 'reference'"):
        open_subject("refrence")


# --- telling -----------------------------------------------------------------------------------------------------------


def test_command_line(few, tmp_path, capsys):
    files = tmp_path / "check.json", tmp_path / "check.html"
    assert main(["check", "reference", "--json", str(files[0]), "--html", str(files[1])]) == 0
    out = capsys.readouterr().out
    assert "contract\n  ok       info_is_plain" in out
    assert "reference: 3 passed of 3 checks in" in out
    found = json.loads(files[0].read_text())
    assert found["passed"] is True
    assert [one["outcome"] for one in found["checks"]] == ["passed"] * 3
    assert found["versions"].keys() == {"vace-adapt", "HOOK_API", "torch", "python"}
    page = files[1].read_text()
    assert "<td>the_sink_stays</td><td>The first latent frames stay in the memory for good; " in page


def test_command_line_fails_with_a_check(few, monkeypatch, tmp_path, capsys):
    bench = mutants.Bench(monkeypatch, tmp_path)
    mutants.every_draw_is_used(bench)
    monkeypatch.setattr("vace_adapt_conformance.subject.open_subject", lambda *args, **options: bench.subject())
    assert main(["check", "reference", "--html", str(tmp_path / "check.html")]) == 1
    text = "chunk 0 used noise draws [0, 1], parts.draws says [0, 1, 2]"
    assert f"FAILED   every_draw_is_used  {text}" in capsys.readouterr().out
    assert f"<b>{text}</b>" in (tmp_path / "check.html").read_text()


def test_command_line_takes_settings(few, tmp_path, capsys):
    assert main(["check", "reference", "window=8", "denoising_steps=[900,300]"]) == 0
    assert "reference window=8 denoising_steps=[900, 300]: 3 passed of 3 checks in" in capsys.readouterr().out
    settings = open_subject("reference", overrides=["window=8"]).pipe.parts.settings
    assert (settings.window, settings.sink) == (8, 2)


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["nope"], "no pipeline 'nope'"),
        (
            ["reference", "--json", "/no/such/folder/x.json"],
            "/no/such/folder/x.json cannot be written: there is no folder",
        ),
        (["reference", "--layout", "official"], "--layout and --live belong together"),
        (["reference", "window"], "cannot read 'window': key=value is expected, a key of the pipeline's settings"),
        (["reference", "sinks=1"], "pipeline.sinks: unknown key; did you mean 'sink'?"),
        (["reference", "--layout", "native", "--live", "nowhere"], "--live must be MODULE:FUNCTION, 'nowhere' is not"),
    ],
)
def test_command_line_refuses(arguments, refusal, capsys):
    assert main(["check", *arguments]) == 2
    assert f"error: {refusal}" in capsys.readouterr().err


def test_without_the_suite_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("vace_adapt.cli.check.find_spec", lambda name: None)
    assert main(["check", "reference"]) == 2
    assert "needs the conformance suite: pip install vace-adapt-conformance" in capsys.readouterr().err


def test_table(few, subject, tmp_path):
    made = table.table([run(subject), run(declaring("sink", Support.UNSUPPORTED))])
    assert made.splitlines() == [
        "| | invariant | reference | reference |",
        "| --- | --- | --- | --- |",
        f"| contract | {CHECKS['info_is_plain'].statement} | yes | yes |",
        f"| cache | {CHECKS['the_sink_stays'].statement} | yes | - |",
        f"| chunks | {CHECKS['every_draw_is_used'].statement} | yes | yes |",
        "| | passed | 3/3 | 2/3 |",
        "",
        "- reference: unsupported: sink: because",
    ]
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- conformance -->\nold\n<!-- end -->\nafter\n")
    table.write(page, made)
    assert page.read_text() == f"before\n<!-- conformance -->\n{made}\n<!-- end -->\nafter\n"
    page.write_text("nothing")
    with pytest.raises(InputError, match="has no place for the table"):
        table.write(page, made)


def run_pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    plugin = ["-p", "vace_adapt_conformance.pytest_plugin", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *plugin, "--pyargs", "vace_adapt_conformance", *arguments]
    path = os.pathsep.join(folder for folder in sys.path if folder)
    alone = {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd="/", env=alone, check=False)


def test_pytest_runs_the_same_checks():
    done = run_pytest("--pipeline", "reference", "-k", "info_is_plain or every_hook")
    assert done.returncode == 0, done.stdout
    assert f"2 passed, {len(CHECKS) - 1} deselected" in done.stdout


def test_pytest_takes_settings():
    done = run_pytest("--pipeline", "reference window=8", "-k", "info_is_plain", "-vv")
    assert done.returncode == 0, done.stdout
    assert "[reference window=8-contract-info_is_plain]" in done.stdout


def test_pytest_refuses_an_unknown_pipeline():
    done = run_pytest("--pipeline", "nope")
    assert done.returncode == 4
    assert "--pipeline nope: not installed (installed: " in done.stderr
