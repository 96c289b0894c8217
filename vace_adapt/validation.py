"""Pydantic's findings as one readable line for each mistake."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vace_adapt.errors import SettingsError, closest

Model = TypeVar("Model", bound=BaseModel)


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
    expected = str(found["msg"]).replace("Input should be", "must be")
    return f"{expected}, not {found['input']!r}"


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Known keys at a path inside a settings model."""
    current: Any = model
    for part in path:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return []
        current = current.model_fields[str(part)].annotation
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []
