"""Settings of a pipeline as they stand on a command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vace_adapt.errors import SettingsError


def settings_of(overrides: Sequence[str]) -> dict[str, Any]:
    """``["stream_batch=false", "backbone.layers=2"]`` as a section of nested keys.

    Raises:
        SettingsError: one that is not key=value, or whose value cannot be read.
    """
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not (key and equals):
            raise SettingsError(f"cannot read {override!r}: key=value is expected, a key of the pipeline's settings")
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        found = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    except (OmegaConfBaseException, YAMLError) as error:
        raise SettingsError(f"cannot read {' '.join(overrides)!r}: {str(error).splitlines()[0]}") from error
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}
