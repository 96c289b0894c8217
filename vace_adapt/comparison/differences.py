"""What the configurations of several runs do not have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEFT_OUT = ("output.folder", "task.describe", "task.needs")
"""Keys that say nothing of what a run makes."""

ABSENT = "–"


@dataclass(frozen=True)
class Difference:
    """One key that is not the same in all runs.

    Attributes:
        key: its full name.
        values: as text, one for each run; `ABSENT` where a run has no such key.
        odd: which of them are not the most common value; empty where no value is.
    """

    key: str
    values: tuple[str, ...]
    odd: frozenset[int]


def differences(configs: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """The keys in which configurations differ, in the order of the first one that has them."""
    flats = [flat(config) for config in configs]
    keys = dict.fromkeys(key for one in flats for key in one)
    found = []
    for key in keys:
        values = tuple(one.get(key, ABSENT) for one in flats)
        if len(set(values)) > 1 and key not in LEFT_OUT:
            found.append(Difference(key, values, _odd(values)))
    return found


def names(configs: Sequence[Mapping[str, Any]], fallback: Sequence[str]) -> list[str]:
    """A short name for each run: its pipeline and what is not the same in all of them; the fallbacks where two would
    have one name.
    """
    found = [one for one in differences(configs) if not one.key.startswith(("pipeline.", "task."))]
    made = []
    for i, config in enumerate(configs):
        parts = [_section(config, "pipeline")]
        if len({_section(other, "task") for other in configs}) > 1:
            parts.append(_section(config, "task"))
        parts += [f"{one.key.removeprefix('controls.')} {one.values[i]}" for one in _shortest(found)]
        made.append(" · ".join(filter(None, parts)))
    return made if len(set(made)) == len(made) else list(fallback)


def flat(config: Any, prefix: str = "") -> dict[str, str]:
    """Nested values as text by full name; a list is one value."""
    if isinstance(config, Mapping) and config:
        return {name: text for key, value in config.items() for name, text in flat(value, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): _text(config)}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _odd(values: Sequence[str]) -> frozenset[int]:
    ((common, times), *_) = Counter(values).most_common()
    if times == 1 or list(Counter(values).values()).count(times) > 1:
        return frozenset()
    return frozenset(i for i, value in enumerate(values) if value != common)


def _shortest(found: Sequence[Difference]) -> list[Difference]:
    """At most three, none that says what another has said: scales of control and references that go together are
    one.
    """
    told: dict[tuple[str, ...], Difference] = {}
    for one in found:
        if all(len(value) <= 24 for value in one.values):
            told.setdefault(one.values, one)
    return list(told.values())[:3]


def _section(config: Mapping[str, Any], name: str) -> str:
    section = config.get(name)
    return str(section.get("name", "")) if isinstance(section, Mapping) else ""
