"""Overrides whose value is taken as it stands, past Hydra's grammar: prompts and paths hold commas and quotes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

FREE_TEXT = ("prompt", "input", "mask", "references", "first", "last", "output.folder")

QUOTED = re.compile(r"""(['"])((?:\\.|(?!\1)[^\\])*)\1""", re.DOTALL)
"""One quoted text, whole; ``'a' and 'b'`` is none."""


SEVERAL = re.compile(rf"(?:{QUOTED.pattern})(?:,(?:{QUOTED.pattern.replace('1', '3')}))+", re.DOTALL)
"""Several quoted texts: what a sweep runs through."""


def split_free_text(overrides: Sequence[str], *, sweep: bool = False) -> tuple[dict[str, str | None], list[str]]:
    """The values of free-text keys, and the other overrides.

    A quoted value loses its quotes, ``null`` is None, and references in brackets are left to Hydra; in a `sweep` so are
    several quoted texts with commas between them.
    """
    texts: dict[str, str | None] = {}
    others = []
    for override in overrides:
        key, _, value = override.partition("=")
        swept = sweep and SEVERAL.fullmatch(value)
        if key not in FREE_TEXT or swept or (key == "references" and value.startswith(("[", "{"))):
            texts.pop(key, None)
            others.append(override)
        else:
            texts[key] = None if value == "null" else _unquoted(value)
    return texts, others


def with_texts(composed: Mapping[str, Any], texts: Mapping[str, str | None]) -> dict[str, Any]:
    """A composed configuration with free texts in their places; a place that is no longer there stays so."""
    made = dict(composed)
    for key, text in texts.items():
        section, _, name = key.rpartition(".")
        if not section:
            made[name] = text
        elif isinstance(made.get(section), dict):
            made[section] = {**made[section], name: text}
    return made


def _unquoted(value: str) -> str:
    """Without quotes around it; backslashes before a quote count double, as in Hydra."""
    found = QUOTED.fullmatch(value)
    if found is None:
        return value
    return re.sub(rf"\\+(?={found[1]}|$)", lambda run: run[0][: len(run[0]) // 2], found[2])
