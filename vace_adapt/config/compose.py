"""Hydra composition: core's ``conf/`` plus one ``conf/pipeline/NAME.yaml`` from each installed plugin.

Plugins are found through their metadata and their configs by file path; none is imported.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import vace_adapt
from vace_adapt.errors import PipelineNotFound, SettingsError, closest
from vace_adapt.loading import discover

CONF = Path(vace_adapt.__file__).parent / "conf"

FREE_TEXT = ("prompt", "input", "mask", "output.folder")
"""Keys whose value is taken as it stands, so that a prompt may hold commas, colons and quotes."""


class PipelineConfigs(SearchPathPlugin):
    """Adds every plugin's ``conf/`` folder to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in plugin_conf_folders():
            search_path.append("vace-adapt", f"file://{folder}")


def plugin_conf_folders() -> list[Path]:
    """The ``conf/`` folders of installed plugins, without importing them."""
    folders = []
    for found in discover().values():
        for plugin in found:
            spec = importlib.util.find_spec(plugin.entry_point.module.split(".")[0])
            for location in (spec.submodule_search_locations or []) if spec else []:
                folders.append(Path(location) / "conf")
    return [folder for folder in folders if folder.is_dir()]


def compose_config(overrides: Sequence[str]) -> dict[str, Any]:
    """Compose a configuration to plain containers.

    Raises:
        PipelineNotFound, SettingsError: in one line, with the closest known name.
    """
    Plugins.instance().register(PipelineConfigs)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose("config", [_free_text(override) for override in overrides])
            plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except MissingConfigException as error:
        raise _unknown_choice(error) from error
    except OverrideParseException as error:
        raise SettingsError(f"cannot read {error.override!r}: put quotes around the value") from error
    except (ConfigCompositionException, HydraException, OmegaConfBaseException) as error:
        raise _unknown_key(error) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _free_text(override: str) -> str:
    """Quote the value of a free-text key for Hydra's grammar."""
    key, sign, value = override.partition("=")
    if not sign or key not in FREE_TEXT or value in ("", "null") or value[:1] in "'\"":
        return override
    escaped = value.replace("${", r"\${")  # OmegaConf would read it as an interpolation
    escaped = re.sub(r"(\\*)'", lambda found: 2 * found[1] + r"\'", escaped)
    escaped = re.sub(r"\\+$", lambda found: 2 * found[0], escaped)
    return f"{key}='{escaped}'"


def _unknown_choice(error: MissingConfigException) -> Exception:
    """``pipeline=x`` or ``task=x`` where there is no x."""
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    known = sorted(error.options or [])
    if group == "pipeline":
        return PipelineNotFound(name, known)
    return SettingsError(f"{group}={name}: unknown (known: {', '.join(known)}){closest(name, known)}")


def _unknown_key(error: Exception) -> SettingsError:
    """A key that is not in the configuration, or a value Hydra cannot use."""
    text = str(error.__cause__ or error)
    key = re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", text)
    if key is None:
        return SettingsError(" ".join(str(error).split()))
    full = key[2]
    section = full.rpartition(".")[0]
    return SettingsError(f"{full}: unknown key{closest(full, _known_keys(section))}")


def _known_keys(section: str) -> list[str]:
    """Full names of the keys in a section of the default configuration."""
    keys = compose_config([])
    for part in section.split(".") if section else []:
        inner = keys.get(part)
        keys = inner if isinstance(inner, dict) else {}
    return [f"{section}.{key}" if section else key for key in keys]
