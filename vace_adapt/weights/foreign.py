"""Errors of third-party code as errors of the framework."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pydantic import BaseModel, ValidationError

from vace_adapt.errors import VaceAdaptError
from vace_adapt.validation import mistakes_of

LONGEST = 500
"""Characters of a foreign message that are shown."""


@contextmanager
def refusing(kind: type[VaceAdaptError], text: str) -> Iterator[None]:
    """Turn what goes wrong inside into one line: `text`, then the cause's type and message.

    Errors of the framework and a lack of memory pass unchanged.

    Raises:
        VaceAdaptError: of `kind`, with its cause.
    """
    try:
        yield
    except (VaceAdaptError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        message = textwrap.shorten(_said(error), LONGEST)
        cause = type(error).__name__
        raise kind(f"{text}: {cause}: {message}" if message else f"{text}: {cause}") from error


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return f"{error.title}: {'; '.join(mistakes_of(error, '', BaseModel))}"
    return str(error)
