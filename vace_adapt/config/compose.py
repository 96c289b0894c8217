"""Hydra composition: core's ``conf/`` plus one ``conf/pipeline/NAME.yaml`` from each installed plugin.

Plugins are found through their metadata and their configs by file path; none is imported.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

import vace_adapt
from vace_adapt.config.free_text import split_free_text, with_texts
from vace_adapt.errors import PipelineNotFound, SettingsError, closest
from vace_adapt.loading import discover

CONF = Path(vace_adapt.__file__).parent / "conf"

CLIP = CONF.parent / "embedded" / "clip"

GROUPS = ("pipeline", "task")
"""Keys whose value is the name of a file of the configuration."""

OPEN = ("controls.annotators", "controls.outpaint", "videos")
"""Sections whose keys are not in the configuration beforehand; Hydra has to be told so."""


def bundled(name: str) -> str:
    """``${bundled:NAME}``: the path of a file of the bundled clip."""
    return str(CLIP / name)


OmegaConf.register_new_resolver("bundled", bundled, replace=True)


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
    texts, others = prepared(overrides)
    with composing(others):
        _check_choices(others)
        return plain_config(compose("config", others), texts)


def prepared(overrides: Sequence[str], *, sweep: bool = False) -> tuple[dict[str, str | None], list[str]]:
    """Free texts by key, and the other overrides as Hydra takes them.

    Raises:
        SettingsError: one that is not of the form key=value.
    """
    for override in overrides:
        _check_form(override)
    return split_free_text([_opened(override) for override in overrides], sweep=sweep)


def plain_config(composed: DictConfig, texts: Mapping[str, str | None]) -> dict[str, Any]:
    """What Hydra composed, as plain containers, with the free texts in it."""
    plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return with_texts({str(key): value for key, value in plain.items()}, texts)


@contextmanager
def composing(overrides: Sequence[str]) -> Iterator[None]:
    """Hydra over core's and the plugins' ``conf/``.

    Args:
        overrides: what is composed with; errors are told by it.

    Raises:
        PipelineNotFound, SettingsError: in one line, whatever is wrong with the overrides.
    """
    Plugins.instance().register(PipelineConfigs)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    except MissingConfigException as error:
        raise _unknown_choice(error) from error
    except OverrideParseException as error:
        raise SettingsError(f"cannot read {error.override!r}: put quotes around the value") from error
    except MissingMandatoryValue as error:
        raise SettingsError(f"{error.full_key}: has no value (???)") from error
    except (ConfigCompositionException, HydraException, OmegaConfBaseException) as error:
        raise _unusable(error, overrides) from error


def _check_form(override: str) -> None:
    if not re.match(r"(\+\+?)?\w[^=]*=|~\w", override):
        raise SettingsError(f"cannot read {override!r}: key=value is expected")


def _opened(override: str) -> str:
    return f"++{override}" if re.match(rf"({'|'.join(OPEN)})[.=]", override) else override


def _check_choices(overrides: Sequence[str]) -> None:
    """``pipeline=null``, say, is no name."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.key_or_group in GROUPS and not (override.is_delete() or isinstance(override.value(), (str, list))):
            raise SettingsError(f"{override.key_or_group}: a name is expected, not {override.get_value_string()}")


def _unknown_choice(error: MissingConfigException) -> Exception:
    """``pipeline=x`` or ``task=x`` where there is no x."""
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    known = sorted(error.options or [])
    if group == "pipeline":
        return PipelineNotFound(name, known)
    return SettingsError(f"{group}={name}: unknown (known: {', '.join(known)}){closest(name, known)}")


def _unusable(error: Exception, overrides: Sequence[str]) -> SettingsError:
    """A key that is not in the configuration, or a value Hydra cannot use."""
    text = " ".join(str(error).split())
    if sweep := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)' (?:1\. To|requires)", text):
        return SettingsError(
            f"cannot use {sweep[1]!r}: one value is expected; a list stands in [], a text in quotes; -m sweeps"
        )
    if merged := re.fullmatch(r"Error merging override (\S+?)=(([{\[]).*)", text):
        key, value, bracket = merged.groups()
        if bracket == "{":
            return SettingsError(f"{key}: must be a list, not {value}: write [{value}]")
        return SettingsError(f"{key}: must be key: value pairs in {{}}, not the list {value}")
    unknown = re.search(r"Key '[^']+' is not in struct\s+full_key: (\S+)", str(error.__cause__ or error))
    if unknown is None:
        return SettingsError(text)
    full = unknown[1]
    section = full.rpartition(".")[0]
    known = _known_keys(section, [override for override in overrides if re.fullmatch(r"pipeline=\w+", override)])
    if full in known:
        return SettingsError(f"{full}: {section} is set to something else: leave {section}=... out")
    return SettingsError(f"{full}: unknown key{closest(full, known)}")


def _known_keys(section: str, pipeline: Sequence[str]) -> list[str]:
    """Full names of the keys in a section of the default configuration, with the pipeline that was chosen."""
    keys = compose_config(pipeline)
    for part in section.split(".") if section else []:
        inner = keys.get(part)
        keys = inner if isinstance(inner, dict) else {}
    return [f"{section}.{key}" if section else key for key in keys]
