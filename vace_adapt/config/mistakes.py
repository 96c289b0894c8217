"""Pydantic's findings as one readable line for each mistake."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from vace_adapt.errors import SettingsError, closest


def settings_error(error: ValidationError, section: str, model: type[BaseModel]) -> SettingsError:
    """All mistakes of a section: the field's path, what came, what was expected, and for unknown keys the closest one."""
    lines = []
    for found in error.errors():
        path = ".".join(str(part) for part in (section, *found["loc"]) if part != "")
        if found["type"] == "extra_forbidden":
            key = str(found["loc"][-1])
            lines.append(f"{path}: unknown key{closest(key, _keys(model, found['loc'][:-1]))}")
        elif found["type"] == "missing":
            lines.append(f"{path}: is missing")
        else:
            message = found["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            came = "" if isinstance(found["input"], dict) else f", not {found['input']!r}"
            lines.append(f"{path}: {message}" + ("" if "not " in message else came))
    return SettingsError("; ".join(lines))


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Known keys at a path inside a settings model."""
    current: object = model
    for part in path:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return []
        current = current.model_fields[str(part)].annotation
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []
