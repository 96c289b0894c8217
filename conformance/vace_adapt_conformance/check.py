"""What a check is, what becomes of one, and how it says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from vace_adapt_conformance.subject import Subject

GROUPS = ("contract", "blocks", "hints", "attention", "chunks", "cache", "bank", "lifecycle", "stream batch")
"""In the order of the table."""


class Outcome(StrEnum):
    """What became of a check."""

    PASSED = "passed"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"  # the plugin declares that the base model cannot do it
    NOT_IMPLEMENTED = "not implemented"  # the plugin declares that it does not do it yet, and it does not
    MISSING = "missing"  # a hook that the check needs is not written yet


@dataclass(frozen=True)
class Check:
    """One invariant.

    Attributes:
        group: one of `GROUPS`.
        name: unique.
        statement: what must hold, in one line.
        needs: capabilities without which it says nothing.
        telling: whether it fails where its capabilities are not there; one that holds then, too, is not run.
        function: raises AssertionError with one line: what came, what was expected.
    """

    group: str
    name: str
    statement: str
    needs: tuple[str, ...]
    telling: bool
    function: Callable[[Subject], None]


@dataclass(frozen=True)
class Result:
    """What one check found; `reason` is one line, empty where it passed."""

    check: Check
    outcome: Outcome
    reason: str
    seconds: float

    @property
    def bad(self) -> bool:
        return self.outcome in (Outcome.FAILED, Outcome.MISSING)


CHECKS: dict[str, Check] = {}
"""Every check by name, in the order of definition; filled when the modules of `vace_adapt_conformance.groups` load."""


def check(
    group: str, *needs: str, telling: bool = True
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Register a function as a check; the first line of its docstring is the statement.

    Args:
        group: one of `GROUPS`.
        needs: capabilities it is about.
        telling: see `Check`.
    """

    def register(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        name = function.__name__
        assert group in GROUPS
        assert name not in CHECKS, name
        statement = (function.__doc__ or "").split("\n\n")[0]
        CHECKS[name] = Check(group, name, " ".join(statement.split()), needs, telling, function)
        return function

    return register


def expect(holds: bool, otherwise: str) -> None:
    """Fail with one line."""
    if not holds:
        raise AssertionError(otherwise)


def expect_bits(came: Tensor, expected: Tensor, what: str) -> None:
    """Fail unless two tensors are the same, bit for bit."""
    if came.shape != expected.shape or came.dtype != expected.dtype:
        raise AssertionError(f"{what}: came {_kind(came)}, expected {_kind(expected)}")
    if not torch.equal(came, expected):
        apart = float((came.double() - expected.double()).abs().max())
        raise AssertionError(f"{what}: differs by up to {apart:.3g}, expected the same bits")


def expect_same(came: Iterable[Tensor], expected: Iterable[Tensor], what: str) -> None:
    """Fail unless two streams of latents are the same, bit for bit."""
    came, expected = list(came), list(expected)
    expect(len(came) == len(expected), f"{what}: {len(came)} chunks came, expected {len(expected)}")
    for index, (one, other) in enumerate(zip(came, expected, strict=True)):
        expect_bits(one, other, f"{what}, chunk {index}")


def expect_other(came: Tensor, other: Tensor, what: str) -> None:
    """Fail if two tensors are the same."""
    expect(not torch.equal(came, other), f"{what}: the same bits came, expected others")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
