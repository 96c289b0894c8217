"""Run every check on one plugin."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import import_module

import torch

from vace_adapt.contract import Support
from vace_adapt.errors import PluginError
from vace_adapt_conformance.check import CHECKS, GROUPS, Check, Outcome, Result
from vace_adapt_conformance.report import Report
from vace_adapt_conformance.subject import Subject, purpose

MODULES = (
    "contract",
    "blocks",
    "hints",
    "attention",
    "chunks",
    "cache",
    "rebuilding",
    "bank",
    "lifecycle",
    "batching",
)


def all_checks() -> Iterator[Check]:
    """Every check, group by group."""
    for module in MODULES:
        import_module(f"vace_adapt_conformance.groups.{module}")
    yield from sorted(CHECKS.values(), key=lambda check: GROUPS.index(check.group))


def run(subject: Subject) -> Report:
    """Every check on one plugin."""
    missing = [f"{hook} {reason}: {purpose(hook)}" for hook, reason in subject.missing.items()]
    results = tuple(run_check(check, subject) for check in all_checks())
    return Report(subject.title, subject.distribution, tuple(missing), results)


def run_check(check: Check, subject: Subject) -> Result:
    """One check on one plugin; nothing it does comes out as an exception, but for KeyboardInterrupt."""
    begin = time.perf_counter()
    outcome, reason = _outcome(check, subject)
    return Result(check, outcome, reason, time.perf_counter() - begin)


def _outcome(check: Check, subject: Subject) -> tuple[Outcome, str]:
    declared = []
    if check.needs:
        try:
            declared = [(need, subject.declared(need)) for need in check.needs]
        except Exception as error:
            return _what_stopped(error)
    for need, capability in declared:
        if capability.support is Support.UNSUPPORTED:
            return Outcome.UNSUPPORTED, f"{need}: {capability.reason}"
    pending = [(need, one.reason) for need, one in declared if one.support is Support.NOT_IMPLEMENTED]
    declined = Outcome.NOT_IMPLEMENTED, "; ".join(f"{need}: {why}" for need, why in pending)
    if pending and not check.telling:
        return declined
    try:
        with torch.no_grad():
            check.function(subject)
    except Exception as error:
        outcome, reason = _what_stopped(error)
        return declined if pending and outcome is Outcome.FAILED else (outcome, reason)
    if pending:
        names = " and ".join(need for need, _ in pending)
        return Outcome.FAILED, f"passes, but {names} is declared not implemented: declare it full"
    return Outcome.PASSED, ""


def _what_stopped(error: Exception) -> tuple[Outcome, str]:
    """What an exception says about the plugin."""
    line = " ".join(str(error).split())
    if isinstance(error, NotImplementedError):
        return Outcome.MISSING, f"needs {line or 'a hook that is not written yet'}"
    if isinstance(error, AssertionError):
        return Outcome.FAILED, line or "an assertion failed without a text"
    if isinstance(error, PluginError):
        return Outcome.MISSING, f"the plugin does not load: {line}"
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = "" if where is None else f" ({where.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{where.tb_lineno})"
    return Outcome.FAILED, f"raised {type(error).__name__}: {line}{place}"
