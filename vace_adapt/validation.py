"""Pydantic's findings as one readable line for each mistake."""

from __future__ import annotations

import operator
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from vace_adapt.errors import InputError, SettingsError, closest

Model = TypeVar("Model", bound=BaseModel)

EXPECTED = {"tuple_type": "must be a list", "path_type": "must be a path"}
"""What pydantic says in words of Python, in words of the configuration."""


def validated(kind: type[Model], given: Any, section: str) -> Model:
    """An instance as it is, plain values validated.

    Raises:
        SettingsError: with every mistake of the section in it.
    """
    if isinstance(given, kind):
        return given
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise SettingsError("; ".join(mistakes_of(error, section, kind))) from None


def whole(name: str, number: Any) -> int:
    """A whole number of any kind (of numpy, of torch).

    Raises:
        InputError: it is none.
    """
    try:
        return operator.index(number)
    except TypeError:
        raise InputError(f"{name} must be a whole number, not {number!r}") from None


def mistakes_of(error: ValidationError, section: str, model: type[BaseModel]) -> list[str]:
    """One line for each mistake: the field's path, what is expected, what came; for unknown keys the closest one."""
    lines = []
    for found in error.errors():
        path = ".".join(str(part) for part in (section, *found["loc"]) if part != "")
        where = f"{path}: " if path else ""
        lines.append(where + _describe(found, model))
    return lines


def _describe(found: Any, model: type[BaseModel]) -> str:
    if found["type"] == "extra_forbidden":
        key = str(found["loc"][-1])
        return f"unknown key{closest(key, _keys(model, found['loc'][:-1]))}"
    if found["type"] == "missing":
        return "is missing"
    if found["type"] == "value_error":
        return str(found["msg"]).removeprefix("Value error, ")
    if found["type"] == "model_type":
        expected = f"must be a section with the keys {', '.join(_keys(model, found['loc']))}"
    else:
        expected = EXPECTED.get(found["type"]) or str(found["msg"]).replace("Input should be", "must be")
    return f"{expected}, not {found['input']!r}"


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Known keys at a path inside a settings model."""
    current: type[BaseModel] | None = model
    for part in path:
        if current is None or (isinstance(part, str) and part not in current.model_fields):
            return []
        if isinstance(part, str):
            current = _model_in(current.model_fields[part].annotation)
    return [] if current is None else list(current.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings model in an annotation such as ``tuple[Model, ...]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
