"""From overrides to validated settings. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vace_adapt.batch.declaration import BATCH_VACE, BatchVaceSettings
from vace_adapt.config.compose import compose_config
from vace_adapt.config.settings import RunSettings, validate
from vace_adapt.errors import SettingsError
from vace_adapt.loading import load_plugin


def settings_from(overrides: Sequence[str]) -> RunSettings:
    """Overrides to validated settings.

    Raises:
        PluginError, SettingsError: in one line, with every mistake.
    """
    return settings_of(compose_config(overrides))


def settings_of(composed: Mapping[str, Any]) -> RunSettings:
    """A composed configuration, as plain containers, to validated settings.

    Raises:
        PluginError, SettingsError: in one line, with every mistake.
    """
    section: Any = composed.get("pipeline")
    if not isinstance(section, dict) or "name" not in section:
        raise SettingsError("pipeline: is missing; choose one with pipeline=NAME")
    name = str(section["name"])
    return validate(composed, BatchVaceSettings if name == BATCH_VACE else load_plugin(name).settings_type())
